"""The GPU side of openpi-flash."""
