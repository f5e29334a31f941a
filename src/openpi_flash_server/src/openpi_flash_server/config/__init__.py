"""The configuration: its fields, how file and environment are read, and errors."""
