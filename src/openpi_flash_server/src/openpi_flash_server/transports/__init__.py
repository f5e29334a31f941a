"""QUIC, unix socket and WebSocket in front of a slot."""
