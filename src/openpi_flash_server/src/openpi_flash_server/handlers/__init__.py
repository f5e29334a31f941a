"""The slots' handlers: they answer a request with actions, a subtask, or both."""
