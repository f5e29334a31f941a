"""Requests and answers in MCAP files: written while the server runs, read and sent again later."""
