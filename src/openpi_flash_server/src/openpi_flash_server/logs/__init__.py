"""The log: events with named fields, one line each, which neither block nor repeat without end."""
