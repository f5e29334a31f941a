"""Ties a robot to a remote action policy."""
