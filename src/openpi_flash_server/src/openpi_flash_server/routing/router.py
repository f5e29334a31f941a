"""Carries packets between robots and servers, and asks the servers how they are.

Packets are encrypted between robot and server; the router reads their connection ids, and nothing
else can be read.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import re
import socket
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from openpi_flash_server.logs.events import EventLogger
from openpi_flash_server.routing.route_config import RouteConfig, RoutedServer
from openpi_flash_server.routing.routes import Address, Routes, ServerState, parse_server_id

log = EventLogger(__name__)

ASK_EVERY = 0.25
"""s between questions to a server: as long may a new client be sent to one that has just ended."""
ASK_TIMEOUT = 1.0
QUIET_FOR = 60.0
"""s without a packet after which a client's way back is closed."""
MOST_WAYS = 4096
"""Ways back, and TCP connections, at a time: whoever invents more gets no more sockets."""
TURN = 64
"""Datagrams that are read from one socket before others have their turn."""
LARGEST_DATAGRAM = 65535
BUFFER = 8 << 20
PIECE = 1 << 16

_WAITING = re.compile(r'^openpi_flash_requests_waiting\{[^}]*slot="action"[^}]*\} (\S+)$', re.M)


@dataclass(slots=True)
class _Way:
    """Where a client's packets leave to a server, and its answers come back."""

    socket: socket.socket
    last: float


class Router:
    """Listens when `start` returns, until `close`.

    Args:
        config: where to listen, and for whom.

    Attributes:
        quic_port, websocket_port: where it listens, known after `start`.
    """

    def __init__(self, config: RouteConfig) -> None:
        self._config = config
        self._routes = Routes([parse_server_id(server.server_id) for server in config.servers])
        self._addresses: list[Address | None] = [None] * len(config.servers)
        self._ways: dict[tuple[Address, int], _Way] = {}
        self._carried = 0
        self._tasks: set[asyncio.Task[None]] = set()
        key_file = config.admin_key_file
        self._admin_key = None if key_file is None else key_file.read_text().strip()
        self.quic_port = self.websocket_port = 0

    async def start(self) -> None:
        """Begins to listen.

        Raises:
            OSError: a port cannot be listened on.
        """
        self._loop = asyncio.get_running_loop()
        host = self._config.host
        self._near = _udp_socket(host)
        try:
            self._near.bind((host, self._config.quic_port))
            self._tcp = await asyncio.start_server(
                self._carry_connection, host, self._config.websocket_port
            )
        except OSError:
            self._near.close()
            raise
        self.quic_port = self._near.getsockname()[1]
        self.websocket_port = self._tcp.sockets[0].getsockname()[1]
        self._loop.add_reader(self._near, self._read_near)
        for at in range(len(self._config.servers)):
            self._begin(self._watch(at))
        self._begin(self._clean())

    async def close(self) -> None:
        """Ends at once; a router that follows within 0.4 s goes on with the QUIC connections."""
        self._loop.remove_reader(self._near)
        self._near.close()
        self._tcp.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for key in list(self._ways):
            self._close_way(key)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _read_near(self) -> None:
        now = self._loop.time()
        for _ in range(TURN):
            try:
                packet, sender = self._near.recvfrom(LARGEST_DATAGRAM)
            except OSError:
                return
            client = (sender[0], sender[1])
            server = self._routes.packet(packet, client, now)
            if server is None:
                continue
            way = self._ways.get((client, server)) or self._open(client, server)
            if way is not None:
                way.last = now
                # a full buffer is a lost packet, which QUIC makes up for
                with contextlib.suppress(OSError):
                    way.socket.send(packet)

    def _open(self, client: Address, server: int) -> _Way | None:
        address = self._addresses[server]
        if address is None or len(self._ways) >= MOST_WAYS:
            return None
        far = _udp_socket(address[0])
        try:
            far.connect(address)
        except OSError:
            far.close()
            return None
        way = self._ways[client, server] = _Way(far, self._loop.time())
        self._loop.add_reader(far, self._read_far, far, client)
        return way

    def _read_far(self, far: socket.socket, client: Address) -> None:
        for _ in range(TURN):
            try:
                packet = far.recv(LARGEST_DATAGRAM)
            except OSError:
                return
            with contextlib.suppress(OSError):
                self._near.sendto(packet, client)

    async def _carry_connection(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        peer = writer.get_extra_info("peername")
        self._carried += 1
        try:
            if self._carried > MOST_WAYS:
                return
            server = self._routes.connection((peer[0], peer[1]), self._loop.time())
            if server is None:
                return
            target = self._config.servers[server]
            far = await asyncio.open_connection(target.host, target.websocket_port)
            try:
                both = [_copy(reader, far[1]), _copy(far[0], writer)]
                tasks = [asyncio.ensure_future(one) for one in both]
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            finally:
                far[1].close()
        except OSError as error:
            log.warning("connection failed", client=f"{peer[0]}:{peer[1]}", reason=str(error))
        finally:
            self._carried -= 1
            writer.close()

    async def _watch(self, at: int) -> None:
        server = self._config.servers[at]
        name = f"{server.host}:{server.quic_port}"
        before: bool | None = None
        while True:
            state = await asyncio.to_thread(_ask, server, self._admin_key)
            # its name may mean another address since it was replaced
            if state.ready and not before:
                state = await self._resolve(at)
            self._routes.states[at] = state
            if state.ready is not before:
                log.info("server ready" if state.ready else "server not ready", server=name)
            before = state.ready
            await asyncio.sleep(ASK_EVERY)

    async def _resolve(self, at: int) -> ServerState:
        server = self._config.servers[at]
        try:
            found = await self._loop.getaddrinfo(
                server.host, server.quic_port, type=socket.SOCK_DGRAM
            )
        except OSError:
            return ServerState()
        address = (str(found[0][4][0]), int(found[0][4][1]))
        if self._addresses[at] not in {None, address}:
            for key in [key for key in self._ways if key[1] == at]:
                self._close_way(key)
        self._addresses[at] = address
        return ServerState(ready=True)

    async def _clean(self) -> None:
        while True:
            await asyncio.sleep(QUIET_FOR / 4)
            now = self._loop.time()
            self._routes.forget(now, QUIET_FOR)
            for key, way in list(self._ways.items()):
                if now - way.last > QUIET_FOR:
                    self._close_way(key)

    def _close_way(self, key: tuple[Address, int]) -> None:
        way = self._ways.pop(key)
        self._loop.remove_reader(way.socket)
        way.socket.close()


def _udp_socket(host: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_DGRAM)
    made.setblocking(False)
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        made.setsockopt(socket.SOL_SOCKET, option, BUFFER)
    return made


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(PIECE):
        writer.write(piece)
        await writer.drain()


def _ask(server: RoutedServer, admin_key: str | None) -> ServerState:
    """Asks a server whether it is ready, and how many requests wait."""
    try:
        healthy = _get(server.host, server.websocket_port, "/healthz", {})
    except ConnectionRefusedError:
        return ServerState(gone=True)
    if healthy is None:
        return ServerState()
    if server.admin_port is None:
        return ServerState(ready=True)
    headers = {} if admin_key is None else {"Authorization": f"Bearer {admin_key}"}
    try:
        text = _get(server.host, server.admin_port, "/metrics", headers)
    except ConnectionRefusedError:
        text = None
    found = None if text is None else _WAITING.search(text)
    return ServerState(ready=True, waiting=int(float(found[1])) if found else 0)


def _get(host: str, port: int, path: str, headers: dict[str, str]) -> str | None:
    """A page; None if it is not there or says no.

    Raises:
        ConnectionRefusedError: nothing listens there.
    """
    connection = http.client.HTTPConnection(host, port, timeout=ASK_TIMEOUT)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        text = answer.read().decode(errors="replace")
    except ConnectionRefusedError:
        raise
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    return text if answer.status == http.HTTPStatus.OK else None
