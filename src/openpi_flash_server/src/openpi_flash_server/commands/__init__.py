"""The sub-commands of `openpi-flash`, one per file."""
