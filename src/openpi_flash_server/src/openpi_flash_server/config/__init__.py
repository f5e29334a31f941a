"""The configuration: its fields, reading file and environment, and errors."""
