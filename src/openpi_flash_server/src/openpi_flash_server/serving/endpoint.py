"""A slot with its ports and its unix socket."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from openpi_flash_server.config.action_settings import ActionSettings
from openpi_flash_server.config.files import user_path
from openpi_flash_server.config.listen_address import with_port
from openpi_flash_server.config.server_config import ServerConfig
from openpi_flash_server.config.transport_settings import TransportSettings
from openpi_flash_server.replicas.replicas import Replicas
from openpi_flash_server.runners.device_turns import DeviceTurns
from openpi_flash_server.runners.own_thread import OwnThread
from openpi_flash_server.runners.replica_runner import ReplicaRunner
from openpi_flash_server.serving.traffic import Traffic
from openpi_flash_server.shadow.without_shadows import without_shadows
from openpi_flash_server.slot.event_log import EventLog
from openpi_flash_server.slot.gate import Gate
from openpi_flash_server.slot.life import Stage
from openpi_flash_server.slot.runner import Handler, Runner
from openpi_flash_server.slot.slot import Slot
from openpi_flash_server.slot.voice import Listener
from openpi_flash_server.transports.certificate import (
    CertificateError,
    KeptCertificate,
    OwnCertificate,
)
from openpi_flash_server.transports.client_events import ClientListener
from openpi_flash_server.transports.local import LocalTransport
from openpi_flash_server.transports.native_transport import NativeTransport
from openpi_flash_server.transports.quic import QuicTransport
from openpi_flash_server.transports.transport import Transport
from openpi_flash_server.transports.websocket.listener import WebsocketTransport


class StartError(Exception):
    """The server cannot start; the message names the thing and what to do."""


class Endpoint:
    """One slot behind WebSocket, QUIC and, where configured, a unix socket.

    They are open when the constructor returns.

    Args:
        name: `action` or `planner`.
        config: says where to listen and who may connect.
        slot_listeners: are told the slot's events, besides the log.
        client_listeners: are told of the slot's clients, besides the log.

    Attributes:
        metadata: what clients are told; None until `open`.
        replicas: that run its policy; None: it runs in this process.

    Raises:
        StartError: a port or the socket cannot be listened on.
    """

    loads_on_demand = False

    def __init__(
        self,
        name: str,
        config: ServerConfig,
        *,
        slot_listeners: Sequence[Listener] = (),
        client_listeners: Sequence[ClientListener] = (),
    ) -> None:
        self.name = name
        self.metadata: Mapping[str, Any] | None = None
        self.replicas: Replicas | None = None
        self._host = config.host
        self._listeners = tuple(client_listeners)
        self.slot = Slot(
            name,
            max_wait=_max_wait(config, name),
            give_up_after=_give_up_after(config, name),
            limits=config.limits.of_a_request,
        )
        self.slot.subscribe(EventLog(name))
        self.traffic = Traffic(name, self.slot.clock)
        for listener in (self.traffic.count, *slot_listeners):
            self.slot.subscribe(without_shadows(listener))
        settings = config.transport(name)
        self.transports: list[Transport] = []
        try:
            self._listen(config, settings)
        except StartError:
            self._close_transports(grace=0)
            raise

    def _listen(self, config: ServerConfig, settings: TransportSettings) -> None:
        certificate = _certificate(config)
        with (
            _naming_the_certificate(config),
            _naming_the_port(config, self.name, "websocket_port"),
        ):
            self.websocket = WebsocketTransport(
                self.slot,
                host=config.host,
                port=settings.websocket_port,
                certificate=certificate,
                api_keys=config.keys,
                expose_tracebacks=config.expose_tracebacks,
                listeners=self._listeners,
            )
        self.transports.append(self.websocket)
        with (
            _naming_the_certificate(config),
            _naming_the_port(config, self.name, "quic_port"),
            _naming_the_relay(settings, self.name),
        ):
            self.quic = QuicTransport(
                self.slot,
                host=config.host,
                port=settings.quic_port,
                certificate=certificate,
                api_keys=config.keys,
                dedicated_link=settings.dedicated_link,
                server_id=settings.quic_server_id,
                relay=settings.relay,
                listeners=self._listeners,
            )
        self.transports.append(self.quic)
        self.local: LocalTransport | None = None
        if settings.unix_socket_path is None:
            return
        try:
            self.local = LocalTransport(
                self.slot,
                path=user_path(settings.unix_socket_path),
                api_keys=config.keys,
                listeners=self._listeners,
            )
        # their messages have the path and the reason already
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise StartError(f"{self.name}_transport.unix_socket_path: {reason}") from error
        self.transports.append(self.local)

    @property
    def native_transports(self) -> list[NativeTransport]:
        """Those of `flash_transport`."""
        return [each for each in self.transports if isinstance(each, NativeTransport)]

    def serve_with(
        self,
        handler: Handler,
        metadata: Mapping[str, Any],
        *,
        gate: Gate | None = None,
        turns: DeviceTurns | None = None,
        replicas: Replicas | None = None,
    ) -> Runner | None:
        """Lets clients in, or runs further requests with another handler.

        No request is lost. Clients that connect from now on get the new metadata.

        Args:
            handler: loaded and warm.
            metadata: for the clients.
            gate: may hold requests back.
            turns: of a device that another slot uses, too.
            replicas: that run the policy; None: it runs in this process.

        Returns:
            The former handler's runner, which may still run what was started.
        """
        self.metadata, self.replicas = metadata, replicas
        name = f"slot-{self.name}"
        runner: Runner
        if replicas is None:
            runner = OwnThread(name, handler, turns=turns)
        else:
            runner = ReplicaRunner(name, handler, replicas)
        former = None
        if self.slot.is_open:
            former = self.slot.replace(runner, gate)
        else:
            self.slot.open(runner, gate)
        # WebSocket last: its health page says that all is ready
        for transport in reversed(self.transports):
            transport.publish(metadata)
        return former

    @property
    def stage(self) -> Stage:
        """Where the slot stands in its life."""
        return self.slot.stage

    @property
    def unhealthy_because(self) -> str | None:
        """The problem that `/healthz` reports; None if there is none."""
        return self.slot.unhealthy_because or self.websocket.unpublished_because

    @property
    def trouble_because(self) -> str | None:
        """A problem that only a restart cures; None if there is none."""
        return self.slot.trouble_because

    @property
    def addresses(self) -> Mapping[str, str]:
        """Where it listens, by the names of the log."""
        addresses = {
            "websocket": with_port(self._host, self.websocket.port),
            "quic": with_port(self._host, self.quic.port),
        }
        if self.local is not None:
            addresses["unix"] = str(self.local.path)
        return addresses

    @property
    def max_wait_ms(self) -> float:
        """How long a request waits for others to share its call; may be set."""
        return self.slot.max_wait * 1000

    @max_wait_ms.setter
    def max_wait_ms(self, value: float) -> None:
        self.slot.max_wait = value / 1000

    def counters(self) -> Mapping[str, Mapping[str, int]]:
        """What the native transports count, by link and counter."""
        counted = {"websocket": self.websocket.counters, "quic": self.quic.counters}
        if self.local is not None:
            counted["unix"] = self.local.counters
        return counted

    def links(self) -> Mapping[str, Mapping[str, float]]:
        """What is known of each connection's link, by the client's name."""
        return {**self.websocket.links, **self.quic.links}

    def stop_accepting(self) -> None:
        """Refuses new requests; the slot goes on."""
        for transport in self.transports:
            transport.stop_accepting()

    def close(self, *, grace: float) -> bool:
        """Runs accepted requests, then closes the ports; returns whether `grace` s were enough."""
        self.stop_accepting()
        finished = self.slot.close(grace=grace)
        self._close_transports(grace=_SENDING_GRACE if finished else _ABANDONED_GRACE)
        return finished

    def _close_transports(self, *, grace: float) -> None:
        for transport in self.transports:
            transport.close(grace=grace)


def _max_wait(config: ServerConfig, slot: str) -> float:
    """How long requests wait for others to share their call, s; the planner runs one at a time."""
    if slot != "action" or config.action is None:
        return 0.0
    return config.action.max_wait_ms / 1000


def _give_up_after(config: ServerConfig, slot: str) -> float | None:
    settings = config.action if slot == "action" else config.planner
    # replicas end their own calls
    if isinstance(settings, ActionSettings) and settings.runs_on_ray:
        return None
    return None if settings is None or not settings.watchdog_s else settings.watchdog_s


def _certificate(config: ServerConfig) -> OwnCertificate | KeptCertificate:
    if config.tls_certificate is None or config.tls_key is None:
        try:
            return KeptCertificate(config.certificate_dir())
        except ValueError as error:
            raise StartError(f"state_dir: {error}") from None
    return OwnCertificate(user_path(config.tls_certificate), user_path(config.tls_key))


@contextlib.contextmanager
def _naming_the_certificate(config: ServerConfig) -> Iterator[None]:
    """Turns a CertificateError into a StartError that names the setting."""
    try:
        yield
    except CertificateError as error:
        if config.tls_certificate is not None:
            raise StartError(f"tls_certificate: {error}") from error
        raise StartError(f"state_dir: cannot keep the certificate: {error}") from error


@contextlib.contextmanager
def _naming_the_relay(settings: TransportSettings, slot: str) -> Iterator[None]:
    """Turns a ValueError of a slot with a relay into a StartError that names the setting."""
    try:
        yield
    except ValueError as error:
        if settings.relay is None:
            raise
        raise StartError(f"{slot}_transport.relay: {error}") from error


@contextlib.contextmanager
def _naming_the_port(config: ServerConfig, slot: str, field: str) -> Iterator[None]:
    """Turns an OSError of listening into a StartError that names the port's setting."""
    try:
        yield
    except OSError as error:
        group = f"{slot}_transport"
        port = getattr(config.transport(slot), field)
        what = config.origin(group, field)
        if what is None:
            by_default = " (by default)" if config.is_default(group, field) else ""
            what = f"{group}.{field}{by_default}"
        if error.errno == errno.EADDRINUSE:
            reason = "another program listens there; stop it or choose another port"
        else:
            known = error.errno in errno.errorcode
            reason = os.strerror(error.errno or 0) if known else error.strerror or str(error)
            reason = reason.lower()
        where = f"{config.host} port {port}"
        raise StartError(f"{what}: cannot listen on {where}: {reason}") from error


_SENDING_GRACE = 2.0
"""s; answers are sent within milliseconds; a client that does not read must not delay the stop."""
_ABANDONED_GRACE = 0.2
"""s for the other answers if a request was given up, which has none to wait for."""
