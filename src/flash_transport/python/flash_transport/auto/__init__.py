"""A client that chooses its transport: QUIC, or WebSocket where UDP does not get through."""
