"""Positronic's sessions: what their observations and actions mean, and which checkpoints answer."""
