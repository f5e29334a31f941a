"""Named inference configs: openpi's, ours, and those of a user's robot file."""
