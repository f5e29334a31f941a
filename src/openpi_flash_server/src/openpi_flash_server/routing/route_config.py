"""The router's configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from openpi_flash_server.routing.routes import parse_server_id

Port = Annotated[int, Field(ge=0, le=65535)]


class RoutedServer(BaseModel):
    """One server that robots may get.

    Attributes:
        host: name or address.
        server_id: its `action_transport.quic_server_id`.
        quic_port: UDP.
        websocket_port: TCP; also says at `/healthz` whether it is ready.
        admin_port: says how many requests wait; None: only its robots are counted.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str
    server_id: str
    quic_port: Port = 5555
    websocket_port: Port = 8000
    admin_port: Port | None = None

    @field_validator("server_id")
    @classmethod
    def _is_a_server_id(cls, text: str) -> str:
        parse_server_id(text)
        return text


class RouteConfig(BaseModel):
    """Where the router listens, and for whom.

    Attributes:
        host: address to listen on.
        quic_port: UDP; 0 lets the system choose.
        websocket_port: TCP; 0 lets the system choose.
        admin_key_file: holds the key of the servers' admin ports; None: they need none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    servers: Annotated[tuple[RoutedServer, ...], Field(min_length=1)]
    host: str = "0.0.0.0"
    quic_port: Port = 5555
    websocket_port: Port = 8000
    admin_key_file: Path | None = None

    @field_validator("servers")
    @classmethod
    def _have_ids_of_their_own(cls, servers: tuple[RoutedServer, ...]) -> tuple[RoutedServer, ...]:
        ids = [server.server_id for server in servers]
        for one in ids:
            if ids.count(one) > 1:
                raise ValueError(f"two servers have the server_id {one}: packets would mix")
        return servers


def read_route_config(path: Path) -> RouteConfig:
    """The configuration in a file.

    Raises:
        ValueError: names the file and each field that is wrong.
    """
    try:
        return RouteConfig.model_validate(json.loads(path.read_text()))
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not JSON: {error}") from None
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()
        )
        raise ValueError(f"{path}: {problems}") from None
