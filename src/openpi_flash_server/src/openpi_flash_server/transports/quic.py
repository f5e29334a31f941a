"""QUIC in front of a slot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flash_transport import QuicServer
from openpi_flash_server.config.files import user_path
from openpi_flash_server.config.relay_settings import RelaySettings
from openpi_flash_server.slot.slot import Slot
from openpi_flash_server.transports.certificate import (
    KeptCertificate,
    OwnCertificate,
    certificate_errors,
)
from openpi_flash_server.transports.client_events import ClientListener
from openpi_flash_server.transports.native_transport import NativeTransport


class QuicTransport(NativeTransport):
    """The QUIC port of a slot.

    Args:
        slot: answers the requests.
        host: the address to listen on.
        port: 0 lets the system choose.
        certificate: the server's certificate.
        api_keys: keys of the clients; empty lets everybody in.
        dedicated_link: nothing else uses the link to the robots.
        server_id: what a load balancer routes by.
        relay: where clients find the slot that cannot reach the port.
        listeners: are told of its clients, besides the log.

    Attributes:
        port: where it listens.
        fingerprint: SHA-256 of the server's certificate, hex; clients pin it.
        link_settings: the settings of the link, as the kernel granted them.

    Raises:
        OSError: the port cannot be listened on.
        CertificateError: the certificate cannot be kept or read.
        ValueError: the relay's address or token file is no good.
    """

    def __init__(
        self,
        slot: Slot,
        *,
        host: str,
        port: int,
        certificate: KeptCertificate | OwnCertificate,
        api_keys: Sequence[str] = (),
        dedicated_link: bool = False,
        server_id: str | None = None,
        relay: RelaySettings | None = None,
        listeners: Sequence[ClientListener] = (),
    ) -> None:
        with certificate_errors():
            server = QuicServer(
                host,
                port,
                api_keys=list(api_keys),
                dedicated_link=dedicated_link,
                server_id=server_id,
                **_relay_arguments(relay),
                **certificate.arguments,
            )
        self.fingerprint: str = server.fingerprint
        self.port: int = server.port
        self.link_settings: Mapping[str, int] = server.link_settings
        self._server = server
        super().__init__(slot, server, link="QUIC", listeners=listeners)

    @property
    def links(self) -> Mapping[str, Mapping[str, float]]:
        """Round trip, packets and bytes of each connection, by the client's name."""
        return self._server.links


def _relay_arguments(relay: RelaySettings | None) -> dict[str, Any]:
    if relay is None:
        return {}
    token_file = str(user_path(relay.token_file))
    return {"relay": relay.address, "relay_name": relay.name, "relay_token_file": token_file}
