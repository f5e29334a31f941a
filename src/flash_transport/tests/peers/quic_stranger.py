"""A client that knows docs/protocol.md and aioquic, and nothing of our code."""

import asyncio
import contextlib
import re
import ssl
from pathlib import Path

import msgpack
from aioquic.asyncio import QuicConnectionProtocol, connect
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, StopSendingReceived, StreamDataReceived
from quic_peers import LONG

PAGE = (Path(__file__).parents[4] / "docs" / "protocol.md").read_text()

ALPN = "openpi-flash/1"

HELLO = b"\x01\x80"
"""The shortest hello: an empty map."""


def example(name):
    """The bytes of an example on the page: the hex at the start of each line."""
    block = re.search(rf"```text {name}\n(.*?)```", PAGE, re.DOTALL).group(1)
    digits = ""
    for line in block.splitlines():
        for word in line.split():
            if not re.fullmatch(r"(?:[0-9a-f]{2})+", word):
                break
            digits += word
    return bytes.fromhex(digits)


class Stranger(QuicConnectionProtocol):
    """A client that knows QUIC and bytes, and keeps what happens to it."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.terminated = asyncio.get_running_loop().create_future()
        self.stopped = {}
        self._received = {}
        self._answers = {}

    def quic_event_received(self, event):
        if isinstance(event, ConnectionTerminated):
            self.terminated.set_result(event)
        elif isinstance(event, StopSendingReceived):
            self.stopped[event.stream_id] = event.error_code
        elif isinstance(event, StreamDataReceived):
            self._received[event.stream_id] += event.data
            if event.end_stream:
                self._answers[event.stream_id].set_result(self._received[event.stream_id])

    def send(self, request, end=True):
        """Opens a stream; returns its id."""
        stream = self._quic.get_next_available_stream_id()
        self._received[stream] = b""
        self._answers[stream] = asyncio.get_running_loop().create_future()
        self._quic.send_stream_data(stream, request, end_stream=end)
        self.transmit()
        return stream

    def cancel(self, stream, sent):
        """Says that nobody wants the answer, nor to send the rest."""
        self._quic.stop_stream(stream, 0x01)
        if not sent:
            self._quic.reset_stream(stream, 0x01)
        self.transmit()

    async def answer(self, stream):
        return await self._answers[stream]

    async def ask(self, request):
        return await self.answer(self.send(request))


@contextlib.asynccontextmanager
async def stranger(port, alpn=ALPN, protocol=Stranger, **settings):
    configuration = QuicConfiguration(
        is_client=True, alpn_protocols=[alpn], verify_mode=ssl.CERT_NONE, **settings
    )
    async with connect(
        "127.0.0.1", port, configuration=configuration, create_protocol=protocol
    ) as client:
        yield client


def speak(port, conversation, **arguments):
    """Runs `conversation(client)` with a stranger that is connected to `port`."""

    async def run():
        async with stranger(port, **arguments) as client:
            return await conversation(client)

    return asyncio.run(asyncio.wait_for(run(), LONG))


def error_of(answer):
    assert answer[0] == 0x01
    error = msgpack.unpackb(answer[1:])
    assert error.keys() == {"code", "message"}
    return error["code"], error["message"]
