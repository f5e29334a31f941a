"""Where the slots listen."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from openpi_flash_server.config.field_types import Port, ServerId, SocketPath
from openpi_flash_server.config.files import user_path
from openpi_flash_server.config.model_settings import Settings
from openpi_flash_server.config.relay_settings import RelaySettings

_WEBSOCKET_PORT = "TCP port of openpi's WebSocket protocol and of /healthz"
_QUIC_PORT = "UDP port of QUIC"
_UNIX_SOCKET_PATH = (
    "file of a unix socket for clients on this computer; their host is unix: and this path"
)


class TransportSettings(Settings):
    """Where one slot listens."""

    websocket_port: Port = Field(description=_WEBSOCKET_PORT)
    quic_port: Port = Field(description=_QUIC_PORT)
    unix_socket_path: SocketPath | None = Field(default=None, description=_UNIX_SOCKET_PATH)
    dedicated_link: Annotated[bool, Field(strict=True)] = Field(
        default=False,
        description="true if nothing else uses the link to the robots: QUIC then sends at full "
        "speed whatever the loss, and starves other traffic",
    )
    quic_server_id: ServerId | None = Field(
        default=None,
        description="0x and 16 lowercase hexadecimal digits, by which a load balancer routes to "
        "this server: connection ids hold it in the plaintext format of QUIC-LB",
    )

    relay: RelaySettings | None = Field(
        default=None, description="a relay at which clients find this slot"
    )

    @field_validator("unix_socket_path")
    @classmethod
    def _is_a_path(cls, text: str | None) -> str | None:
        if text is not None:
            user_path(text)
        return text


class ActionTransportSettings(TransportSettings):
    """Where the action slot listens."""

    websocket_port: Port = Field(default=8000, description=_WEBSOCKET_PORT)
    quic_port: Port = Field(default=5555, description=_QUIC_PORT)


class PlannerTransportSettings(TransportSettings):
    """Where the planner slot listens."""

    websocket_port: Port = Field(default=8002, description=_WEBSOCKET_PORT)
    quic_port: Port = Field(default=5556, description=_QUIC_PORT)
