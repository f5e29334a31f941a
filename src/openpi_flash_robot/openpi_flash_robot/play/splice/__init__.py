"""How a chunk goes on from those before it: one file per method."""
