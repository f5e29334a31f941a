"""The client that chooses its transport."""

from __future__ import annotations

import functools
import os
import secrets
import time
import weakref
from collections.abc import Callable
from os import PathLike
from typing import TYPE_CHECKING, Any, TypeVar

from flash_transport.address import parse_address
from flash_transport.api_key import checked_api_key
from flash_transport.auto.calls import Call
from flash_transport.auto.choice import Transport
from flash_transport.auto.fallback import fallback_port, fallback_to
from flash_transport.auto.links import Links
from flash_transport.auto.quic_side import quic_side
from flash_transport.auto.waited import in_all, time_left, told
from flash_transport.deadline import NEVER, Deadline
from flash_transport.errors import Timeout
from flash_transport.first_actions import FirstActions
from flash_transport.futures import InferenceFuture
from flash_transport.link_estimate import LinkEstimate
from flash_transport.not_begun import NotBegun
from flash_transport.policy import Convert, PolicyClient
from flash_transport.session_name import checked_session
from flash_transport.stats import CallStats

__all__ = ["AutoTransportPolicy"]

if TYPE_CHECKING:
    from flash_transport.auto.links import Side

T = TypeVar("T")

DEFAULT_PORT = 5555


class AutoTransportPolicy(PolicyClient):
    """A policy behind a server of openpi-flash, over QUIC, or WebSocket where UDP is blocked.

    QUIC is tried at once, WebSocket 0.25 s later or as soon as something refuses UDP; the first
    that answers carries the requests. They go over WebSocket, too, when nothing comes over QUIC any
    more, and back over QUIC when that works again: at once after the first time, later each time
    where UDP comes and goes. A request goes over one of them. What a lost connection has not begun
    goes over the other one; nothing is sent twice.

    The fall-back loses no trust: it is `wss://` with the same `server_fingerprint`, `ca_file` or
    `known_servers`. To a server without TLS it is `ws://` only if none of these is given, and no
    `api_key` leaves this computer.

    Args:
        host: name or address of the server, with or without its QUIC port.
        port: its UDP port; None: the one in `host`, else 5555.
        websocket_port: its TCP port; None: 8000 beside 5555 and 8002 beside 5556; beside another
            `port` there is no fall-back without it.
        api_key: as for `FlashTransportPolicy`, as the next ones.
        server_fingerprint: SHA-256 of the server's certificate, which is the same on both ports.
        ca_file: PEM file of certificate authorities.
        known_servers: file of known servers, by host and QUIC port.
        session: name under which the server keeps this client's requests apart from others'.
        connect_timeout: seconds to wait for a server that is not there or not ready (yet).
        open_loop_horizon: see `PolicyClient`.
        dedicated_link: see `FlashTransportPolicy`.
        insecure_fallback: allow `ws://` also where the server is then not verified, or where
            everybody on the way can read the api key.

    Raises:
        Disconnected: neither transport connects within `connect_timeout`; says why each does not.
        AuthenticationFailed: the server does not accept `api_key`; raised here or by the first
            call.
        UntrustedServer: the server's certificate is not the trusted one. Another transport is not
            tried then.
        ServerError: `not_ready`: the server is there, and still not ready.
        ValueError: an argument is malformed, or more than one of the three for trust is given.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int | None = None,
        *,
        websocket_port: int | None = None,
        api_key: str | None = None,
        server_fingerprint: str | None = None,
        ca_file: str | PathLike[str] | None = None,
        known_servers: str | PathLike[str] | None = None,
        session: str | None = None,
        connect_timeout: float = 10.0,
        open_loop_horizon: int | None = None,
        dedicated_link: bool = False,
        insecure_fallback: bool = False,
    ) -> None:
        super().__init__(open_loop_horizon)
        if isinstance(host, str) and host.startswith("unix:"):
            raise ValueError("a unix socket is the only way to it: use FlashTransportPolicy")
        name, udp_port = parse_address(host, port).with_default(DEFAULT_PORT)
        self._server = f"[{name}]:{udp_port}" if ":" in name else f"{name}:{udp_port}"
        self._process = os.getpid()
        session = secrets.token_hex(8) if session is None else checked_session(session)
        trust = {
            "server_fingerprint": server_fingerprint,
            "ca_file": ca_file,
            "known_servers": known_servers,
        }
        tcp_port = fallback_port(udp_port, websocket_port)
        open_websocket, why_not = None, f"websocket_port beside port {udp_port} is not given"
        if tcp_port is not None:
            parse_address(name, tcp_port)
            fallback = fallback_to(
                name,
                tcp_port,
                is_authenticated=any(way is not None for way in trust.values()),
                has_key=checked_api_key(api_key) is not None,
                is_insecure_allowed=insecure_fallback,
            )
            try:
                from flash_transport.auto.websocket_side import open_websocket as connect
            except ImportError as error:
                why_not = str(error)
            else:
                open_websocket, why_not = (
                    functools.partial(
                        connect,
                        fallback,
                        trust=trust,
                        server=self._server,
                        session=session,
                        api_key=api_key,
                        connect_timeout=connect_timeout,
                    ),
                    "",
                )
        quic = quic_side(
            name,
            udp_port,
            api_key=api_key,
            session=session,
            connect_timeout=connect_timeout,
            open_loop_horizon=0,
            dedicated_link=dedicated_link,
            **trust,
        )
        self._links = Links(self._server, quic, open_websocket, why_not, connect_timeout)
        weakref.finalize(self, self._links.close).atexit = False
        try:
            self._links.wait(NEVER)
        except BaseException:
            self._links.close()
            raise

    @property
    def transport(self) -> str:
        """What carries requests now: `quic` or `websocket`; empty without a connection."""
        carrier = self._links.carrier
        return "" if carrier is None else carrier.value

    @property
    def transport_reason(self) -> str:
        """Why it is that one, or why there is no connection; for people."""
        return self._links.reason

    @property
    def link_estimate(self) -> LinkEstimate | None:
        """What is known of the path over QUIC; None while WebSocket carries requests."""
        return self._links.estimate

    def get_server_metadata(self) -> dict[str, Any]:
        """The server's metadata, from when the connection was made.

        Waits up to `connect_timeout` if it has not arrived yet.

        Raises:
            What `infer` raises.
        """
        return self._begun(NEVER, lambda _, side, __: side.get_server_metadata())

    def close(self) -> None:
        """Closes the connections. Requests under way, futures too, end in Disconnected."""
        self._links.close()

    def __repr__(self) -> str:
        if self._links.is_closed:
            state = "closed"
        elif os.getpid() != self._process:
            state = "of another process"
        else:
            state = self.transport or "not connected"
        return f"<AutoTransportPolicy {self._server}, {state}>"

    def _infer(self, observation: dict[str, Any], timeout: float | None) -> dict[str, Any]:
        return self._infer_with_stats(observation, timeout)[0]

    def _infer_with_stats(
        self, observation: dict[str, Any], timeout: float | None
    ) -> tuple[dict[str, Any], CallStats]:
        self._check_process()
        deadline = Deadline.after(timeout, time.monotonic())

        def ask(carrier: Transport, side: Side, waited: int) -> tuple[dict[str, Any], CallStats]:
            has_waited = waited > 0
            left = time_left(timeout, deadline, time.monotonic(), has_waited=has_waited)
            try:
                answer, stats = side._infer_with_stats(side.named(observation), left)
            except Timeout as error:
                raise in_all(error, deadline, has_waited=has_waited) from None
            return answer, told(stats, carrier, waited)

        return self._begun(deadline, ask)

    def _submit(
        self,
        observation: dict[str, Any],
        timeout: float | None,
        convert: Convert | None,
        first: FirstActions | None,
    ) -> InferenceFuture:
        self._check_process()
        deadline = Deadline.after(timeout, time.monotonic())
        call = Call(
            observation,
            timeout,
            deadline,
            convert=convert,
            first=first,
            forget=self._links.forget,
        )
        self._links.submit(call)
        return call.future

    def _reset(self) -> None:
        self._check_process()
        self._begun(NEVER, lambda _, side, __: side._reset())

    def _begun(self, deadline: Deadline, errand: Callable[[Transport, Side, int], T]) -> T:
        """What an errand returns, on the first connection that begins it.

        Args:
            deadline: for everything.
            errand: gets what carries requests, and how many attempts to connect that took.
        """
        attempts = times = 0
        while True:
            carrier, side, waited = self._links.wait(deadline)
            attempts += waited
            try:
                return errand(carrier, side, attempts)
            except NotBegun as error:
                times += 1
                self._links.turned_down(carrier, error, times)

    def _check_process(self) -> None:
        if os.getpid() != self._process:
            raise RuntimeError(
                f"this client of {self._server} was made before a fork and has no connection here; "
                "make a new one after the fork"
            )
