"""Policies that are not ours: a user's Python object, and LeRobot's."""
