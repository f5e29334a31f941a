"""Clients of each link that stop wherever a test wants them to, and end without a goodbye."""

import asyncio
import socket
import ssl
import struct
import threading

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from quic_stranger import ALPN, HELLO, Stranger
from server_fakes import WAIT

from flash_transport import packb

SMALL_BUFFER = 65536
"""Bytes that the kernel keeps for a client, so that a long answer does not fit."""

INFER = b"\x02"


class RawSocket:
    """A client on a stream socket."""

    def __init__(self, family, address):
        self.socket = socket.socket(family)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
        self.socket.settimeout(WAIT)
        self.socket.connect(address)
        self._received = b""

    def take(self, count):
        """The next bytes that the server sends."""
        while len(self._received) < count:
            received = self.socket.recv(65536)
            assert received, "the server closed the connection"
            self._received += received
        taken, self._received = self._received[:count], self._received[count:]
        return taken

    def ask(self, message):
        """Sends a request."""
        self.socket.sendall(self.request(message))

    def ask_in_part(self, message):
        """Sends all of a request but its end."""
        self.socket.sendall(self.request(message)[:-10])

    def stop_reading(self):
        """Lets the server send no more than buffers and windows hold."""

    def ask_for_ever(self, message):
        """Sends requests until the server takes no more, and reads nothing."""
        self.socket.settimeout(0.2)
        try:
            while True:
                self.ask(message)
        except TimeoutError:
            pass

    def vanish(self):
        """Ends the connection at once, as that of a process that is killed."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


class RawWebsocket(RawSocket):
    """Speaks openpi's protocol, and answers no ping."""

    path = "/"

    def __init__(self, port):
        super().__init__(socket.AF_INET, ("127.0.0.1", port))
        self._pings_before_the_first_message = []

    @property
    def _handshake(self):
        return (
            f"GET {self.path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        ).encode()

    def begin_handshake(self):
        self.socket.sendall(self._handshake[:40])

    def open(self):
        self.socket.sendall(self._handshake)
        while b"\r\n\r\n" not in self._received:
            self._received += self.socket.recv(65536)
        self._received = self._received.partition(b"\r\n\r\n")[2]
        # on a busy machine the time for a ping passes before the server's first message
        frame = self._read_frame()
        while frame[0] == 0x9:
            self._pings_before_the_first_message.append(frame)
            frame = self._read_frame()
        assert frame[0] == 0x2

    def next_frame(self):
        """Opcode and payload; pings that came before the first message are given first."""
        if self._pings_before_the_first_message:
            return self._pings_before_the_first_message.pop(0)
        return self._read_frame()

    def _read_frame(self):
        first, second = self.take(2)
        length = second & 127
        if length == 126:
            (length,) = struct.unpack("!H", self.take(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", self.take(8))
        return first & 15, self.take(length)

    def request(self, message):
        return frame(packb(message))


class RawPositronic(RawWebsocket):
    """Speaks Positronic's protocol."""

    path = "/api/v1/session"


class RawUnix(RawSocket):
    """Speaks docs/protocol.md on a unix socket."""

    def __init__(self, path):
        super().__init__(socket.AF_UNIX, str(path))
        self._numbers = 0

    def begin_handshake(self):
        self.socket.sendall(b"openpi-fl")

    def open(self):
        self.socket.sendall(b"openpi-flash/1\n" + self._frame(HELLO))
        length, _ = struct.unpack("<II", self.take(8))
        assert self.take(length)[0] == 0

    def request(self, message):
        return self._frame(INFER + packb(message))

    def _frame(self, message):
        self._numbers += 1
        return struct.pack("<II", len(message), self._numbers) + message


class RawQuic:
    """Speaks docs/protocol.md with aioquic, on an event loop of its own.

    Its address refuses datagrams from when it vanishes on, as that of a process that is killed.
    """

    def __init__(self, port):
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._address = ("127.0.0.1", port)
        self._streams = []
        self._client = self._run(self._make())

    async def _make(self):
        configuration = QuicConfiguration(
            is_client=True,
            alpn_protocols=[ALPN],
            verify_mode=ssl.CERT_NONE,
            server_name="127.0.0.1",
        )
        _, client = await self._loop.create_datagram_endpoint(
            lambda: Stranger(QuicConnection(configuration=configuration)),
            local_addr=("127.0.0.1", 0),
        )
        return client

    def begin_handshake(self):
        self._run(self._begin())

    def open(self):
        self._run(self._open())

    def ask(self, message):
        """Sends a request."""
        self._run(self._send(INFER + packb(message), end=True))

    def ask_in_part(self, message):
        """Sends all of a request but its end."""
        self._run(self._send((INFER + packb(message))[:-10], end=False))

    def stop_reading(self):
        """Lets the server send no more than the windows hold."""
        self._run(self._close_windows())

    def ask_for_ever(self, message):
        """Sends more requests than the server runs at once, and reads nothing."""
        self.stop_reading()
        for _ in range(8):
            self.ask(message)

    def take(self, count):
        """Returns when so many bytes of the last answer have come."""
        self._run(self._take(count))

    def vanish(self):
        """Ends at once, without a word to the server."""
        self._run(self._abort())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(WAIT)
        self._loop.close()

    def _run(self, doing):
        return asyncio.run_coroutine_threadsafe(doing, self._loop).result(WAIT)

    async def _begin(self):
        self._client.connect(self._address)

    async def _open(self):
        # in one turn of the loop: aioquic forgets a handshake that nobody waits for
        self._client.connect(self._address)
        await self._client.wait_connected()
        assert (await self._client.ask(HELLO))[0] == 0

    async def _send(self, data, end):
        self._streams.append(self._client.send(data, end))

    async def _close_windows(self):
        connection = self._client._quic
        connection._write_connection_limits = lambda builder, space: None
        connection._write_stream_limits = lambda builder, space, stream: None

    async def _take(self, count):
        while len(self._client._received[self._streams[-1]]) < count:
            await asyncio.sleep(0.001)

    async def _abort(self):
        if self._client._timer is not None:
            self._client._timer.cancel()
        self._client._transport.abort()
        # the loop closes the socket in its next turn
        await asyncio.sleep(0)


def frame(payload):
    """A binary WebSocket message of a client, unmasked by a mask of zeros."""
    return struct.pack("!BBQ", 0x82, 0x80 | 127, len(payload)) + bytes(4) + payload
