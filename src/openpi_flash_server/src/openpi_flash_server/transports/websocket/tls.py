"""TLS on the WebSocket port, beside connections without: the first byte tells them apart."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from typing import Any

from websockets.asyncio.server import ServerConnection

from openpi_flash_server.transports.certificate import KeptCertificate, OwnCertificate

HANDSHAKE_RECORD = b"\x16"
"""First byte of a TLS connection (RFC 8446, section 5.1); an HTTP request begins with a letter."""

FIRST_BYTE_S = 10.0
"""s for the first byte, and for the TLS handshake."""


class TlsOffer:
    """The certificate that connections are encrypted with; before it is set, none can be."""

    def __init__(self) -> None:
        self.context: ssl.SSLContext | None = None

    def use(self, certificate: KeptCertificate | OwnCertificate) -> None:
        """Encrypts with this certificate.

        Raises:
            OSError: it cannot be used.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate.pem_files)
        self.context = context


class EitherConnection(ServerConnection):
    """A connection with or without TLS, as its client begins it.

    Args:
        offer: the certificate.
        arguments: of `ServerConnection`.
    """

    def __init__(self, offer: TlsOffer, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._offer = offer
        self._is_begun = False
        self._choosing: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begins with the first byte, which is left in the socket."""
        assert isinstance(transport, asyncio.Transport)
        self._choosing = self.loop.create_task(self._choose(transport))

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends the connection, if it has begun."""
        if self._is_begun:
            super().connection_lost(exc)
        elif self._choosing is not None:
            self._choosing.cancel()

    async def _choose(self, transport: asyncio.Transport) -> None:
        # not in connection_made: the transports of Python 3.11.2 begin to read after it
        transport.pause_reading()
        try:
            async with asyncio.timeout(FIRST_BYTE_S):
                first = await _first_byte(transport.get_extra_info("socket").fileno())
            if first != HANDSHAKE_RECORD or self._offer.context is None:
                self._begin(transport)
                transport.resume_reading()
                return
            encrypted = await self.loop.start_tls(
                transport,
                self,
                self._offer.context,
                server_side=True,
                ssl_handshake_timeout=FIRST_BYTE_S,
            )
        except (OSError, TimeoutError):  # port scanners, and clients that do not trust us
            transport.abort()
            return
        if encrypted is None or encrypted.is_closing():
            return
        self._begin(encrypted)

    def _begin(self, transport: asyncio.Transport) -> None:
        self._is_begun = True
        super().connection_made(transport)


async def _first_byte(descriptor: int) -> bytes:
    """The first byte that arrives, without taking it; empty at the end of the connection."""
    loop = asyncio.get_running_loop()
    # the loop watches each descriptor once, and the transport's is the transport's
    with socket.socket(fileno=os.dup(descriptor)) as peeked:
        ready = asyncio.Event()
        loop.add_reader(peeked.fileno(), ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_reader(peeked.fileno())
        return peeked.recv(1, socket.MSG_PEEK)
