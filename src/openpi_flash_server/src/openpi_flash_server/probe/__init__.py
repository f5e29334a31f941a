"""Asks a server as its clients do, and measures it: for `ping`, `test` and `load`."""
