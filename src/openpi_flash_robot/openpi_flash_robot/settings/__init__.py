"""The node's parameters, the server's metadata, and whether the two agree."""
