"""What a slot does with a request: actions, a subtask, or both."""
