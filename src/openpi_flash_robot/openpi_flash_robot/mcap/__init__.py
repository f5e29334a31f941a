"""Writes MCAP files (https://mcap.dev/spec) without packages that a robot may not have."""
