"""Actions in other forms: FAST tokens, and chunks that continue a chunk (real-time chunking)."""
