"""The WebSocket port of a slot: a listener, its health page, its keys, and the protocols."""
