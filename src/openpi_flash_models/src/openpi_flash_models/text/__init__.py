"""Prompts and their tokens."""
