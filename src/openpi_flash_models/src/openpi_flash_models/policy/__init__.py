"""Policies and the planner: robot, normalisation, tokenizer and model in one call."""
