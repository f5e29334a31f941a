"""The commands that this package adds to `openpi-flash`, one file each."""
