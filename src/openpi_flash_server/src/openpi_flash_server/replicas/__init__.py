"""Several copies of one policy, each in a process of its own, and which of them runs what."""
