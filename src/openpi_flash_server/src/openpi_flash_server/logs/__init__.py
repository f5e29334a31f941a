"""The log: events with named fields, one line each; logging never blocks, repeats are limited."""
