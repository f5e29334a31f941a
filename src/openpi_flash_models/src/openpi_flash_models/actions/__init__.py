"""FAST action tokens, real-time chunking, and checks of the actions that a model returns."""
