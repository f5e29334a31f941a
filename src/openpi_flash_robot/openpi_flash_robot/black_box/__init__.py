"""The black box: the last minute of the robot's side, kept in memory and written after a fault."""
