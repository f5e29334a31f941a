"""When to ask, what to play and when to hold: pure decisions, the time is an argument."""
