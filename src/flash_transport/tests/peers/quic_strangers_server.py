"""A server that knows docs/protocol.md and aioquic, and nothing of our code."""

import asyncio
import contextlib
import datetime
import hashlib
import threading

from aioquic.asyncio import QuicConnectionProtocol, serve
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import StreamDataReceived
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from quic_peers import LONG
from quic_stranger import ALPN


class StrangersServer(QuicConnectionProtocol):
    """Answers each stream with what `answer` makes of its bytes."""

    answer = staticmethod(lambda request: b"\x00\x80")

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._requests = {}

    def quic_event_received(self, event):
        if not isinstance(event, StreamDataReceived):
            return
        request = self._requests.get(event.stream_id, b"") + event.data
        self._requests[event.stream_id] = request
        if event.end_stream:
            self.respond(event.stream_id, request)

    def respond(self, stream, request):
        answer = b"\x00\x80" if request[0] == 0x01 else self.answer(request)
        self._quic.send_stream_data(stream, answer, end_stream=True)
        self.transmit()


class PatientServer(StrangersServer):
    """Answers the hello when there is something behind it."""

    def respond(self, stream, request):
        if request[0] == 0x01:
            self._hello = stream
            return
        super().respond(self._hello, b"\x01\x80")
        super().respond(stream, request)


class RudeServer(StrangersServer):
    """Takes a request, does not answer the hello before it, and hangs up."""

    def respond(self, stream, request):
        if request[0] != 0x01:
            self.answer(request)
            self._quic.close()
            self.transmit()


def self_signed(directory):
    """Write cert.pem and key.pem; the certificate's fingerprint."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "stranger")])
    now = datetime.datetime.now(datetime.timezone.utc)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    (directory / "cert.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    (directory / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return hashlib.sha256(signed.public_bytes(serialization.Encoding.DER)).hexdigest()


@contextlib.contextmanager
def strangers_server(directory, answer, alpn=ALPN, kind=StrangersServer):
    """A stranger's server on a thread of its own; yields its port."""
    configuration = QuicConfiguration(is_client=False, alpn_protocols=[alpn])
    configuration.load_cert_chain(directory / "cert.pem", directory / "key.pem")
    protocol = type("Protocol", (kind,), {"answer": staticmethod(answer)})
    started = threading.Event()
    state = {}

    async def run():
        state["stop"] = asyncio.Event()
        state["loop"] = asyncio.get_running_loop()
        server = await serve("127.0.0.1", 0, configuration=configuration, create_protocol=protocol)
        state["port"] = server._transport.get_extra_info("sockname")[1]
        started.set()
        await state["stop"].wait()
        server.close()

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    assert started.wait(LONG)
    try:
        yield state["port"]
    finally:
        state["loop"].call_soon_threadsafe(state["stop"].set)
        thread.join(LONG)
        assert not thread.is_alive()
