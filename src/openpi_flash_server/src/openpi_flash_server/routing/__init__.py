"""Robots on one address, servers behind it: who gets which, and how their packets get there."""
