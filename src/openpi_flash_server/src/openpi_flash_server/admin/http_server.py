"""The operator's port: an HTTP server on a thread of its own."""

from __future__ import annotations

import ipaddress
import logging
import socket
import threading

import uvicorn
from starlette.types import ASGIApp


class AdminPort:
    """Serves `app`; listens when the constructor returns.

    Args:
        app: answers the requests.
        host: the address to listen on.
        port: 0 lets the system choose.

    Attributes:
        port: where it listens.

    Raises:
        OSError: the port cannot be listened on.
    """

    def __init__(self, app: ASGIApp, *, host: str, port: int) -> None:
        self._socket = _listening(host, port)
        self.port: int = self._socket.getsockname()[1]
        # a scanner's malformed requests must not fill the log
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                lifespan="off",
                ws="none",
                http="h11",
                loop="asyncio",
                server_header=False,
                limit_concurrency=_MOST_CONNECTIONS,
                timeout_graceful_shutdown=1,
            )
        )
        self._thread = threading.Thread(
            target=self._server.run, args=([self._socket],), name="admin", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Answers what is being asked, for at most a second, and stops."""
        self._server.should_exit = True
        self._thread.join(_FAREWELL)
        self._socket.close()


def _listening(host: str, port: int) -> socket.socket:
    """`::` takes IPv4 too, as on QUIC."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, address = found[0]
    both = False
    if family == socket.AF_INET6:
        is_any = ipaddress.ip_address(str(address[0])).is_unspecified
        both = is_any and socket.has_dualstack_ipv6()
    return socket.create_server(address[:2], family=family, dualstack_ipv6=both)


_MOST_CONNECTIONS = 64
_FAREWELL = 3.0
"""s; a stop must not wait for a client that does not read."""
