"""The client of openpi's WebSocket protocol.

Needs `websockets` 13 or newer.

The server sends its metadata first. Then each request is one binary frame and each answer another,
in turn and without ids. An answer that comes after its request was given up would look like the
answer to the next one, so a connection with an answer due is closed and never used again.

openpi's server reports an error in a text frame and closes the connection. A server of openpi-flash
accepts the subprotocol `openpi-flash.1`, sends errors with their code and keeps the connection.
"""

from flash_transport.websocket.policy import WebsocketPolicy

__all__ = ["WebsocketPolicy"]
