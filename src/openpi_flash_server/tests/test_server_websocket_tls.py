"""TLS on the WebSocket port, with the certificate that QUIC shows."""

import hashlib
import http.client
import socket
import ssl

import numpy as np
import pytest
from one_checkpoint import hold_sessions
from served_slot import WebsocketServer, get
from server_fakes import WAIT, FakePolicy

from flash_transport import (
    Disconnected,
    QuicServer,
    UntrustedServer,
    WebsocketPolicy,
)
from openpi_flash_server.transports.certificate import KeptCertificate

OBSERVATION = {"state": np.ones(2)}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """The certificate that a QUIC port has made and kept, and its fingerprint."""
    directory = tmp_path_factory.mktemp("certificate")
    quic = QuicServer("127.0.0.1", 0, certificate_dir=directory)
    fingerprint = quic.fingerprint
    quic.close()
    return KeptCertificate(directory), fingerprint


@pytest.fixture
def server(certificate):
    server = WebsocketServer(FakePolicy(), api_keys=["secret"], certificate=certificate[0])
    yield server
    server.close()


def encrypted(server, **options):
    options = {"api_key": "secret", "connect_timeout": WAIT, **options}
    return WebsocketPolicy(f"wss://127.0.0.1:{server.port}", **options)


def test_a_client_that_pins_the_certificate_of_quic_is_answered_over_tls(server, certificate):
    with encrypted(server, server_fingerprint=certificate[1]) as policy:
        assert "actions" in policy.infer(OBSERVATION, timeout=WAIT)
        assert len(server.connections) == 1
    # beside it, the port is what it was
    with server.connect(api_key="secret") as policy:
        assert "actions" in policy.infer(OBSERVATION, timeout=WAIT)
    assert get(server) == (200, "OK\n")


def test_the_key_goes_to_no_server_but_the_pinned_one(server):
    with pytest.raises(UntrustedServer, match="not the pinned"):
        encrypted(server, server_fingerprint="ab" * 32)
    assert server.connection_count == 0


def test_the_first_certificate_is_remembered_and_another_one_refused(server, certificate, tmp_path):
    known = tmp_path / "known_servers"
    for _ in range(2):
        encrypted(server, known_servers=known).close()
    assert known.read_text() == f"127.0.0.1:{server.port} sha256:{certificate[1]}\n"
    known.write_text(f"127.0.0.1:{server.port} sha256:{'cd' * 32}\n")
    with pytest.raises(UntrustedServer, match="line 1 of .* knows it by"):
        encrypted(server, known_servers=known)


def test_without_a_pin_the_authorities_of_the_system_decide(server, certificate):
    with pytest.raises(UntrustedServer, match="certificate of wss://"):
        encrypted(server)
    (pem,) = certificate[0].directory.iterdir()
    with pytest.raises(UntrustedServer, match="certificate of wss://"):
        encrypted(server, ca_file=pem)  # it is for another name


def test_a_port_without_a_certificate_refuses_tls(serve_websocket):
    server = serve_websocket()
    with pytest.raises(Disconnected, match="does not speak TLS"):
        WebsocketPolicy(
            f"wss://127.0.0.1:{server.port}", server_fingerprint="ab" * 32, connect_timeout=WAIT
        )


def test_clients_that_say_nothing_or_nonsense_harm_nobody(server, certificate):
    silent = socket.create_connection(("127.0.0.1", server.port))
    gone = socket.create_connection(("127.0.0.1", server.port))
    gone.close()
    with socket.create_connection(("127.0.0.1", server.port)) as broken:
        broken.sendall(b"\x16\x03\x01\x00\x05hello")
        broken.settimeout(WAIT)
        while broken.recv(1024):
            pass
    with encrypted(server, server_fingerprint=certificate[1]) as policy:
        assert "actions" in policy.infer(OBSERVATION, timeout=WAIT)
    silent.close()


def unverified():
    """What encrypts without looking at the server's certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


@pytest.mark.parametrize("path", ["/healthz", "/api/v1/models"])
def test_pages_and_sessions_are_there_over_tls_too(server, path):
    hold_sessions(server)
    context = unverified()
    # as curl and browsers offer; the server speaks HTTP/1.1 whatever is offered
    context.set_alpn_protocols(["h2", "http/1.1"])
    connection = http.client.HTTPSConnection(
        "127.0.0.1", server.port, timeout=WAIT, context=context
    )
    connection.request("GET", path, headers={"Authorization": "Api-Key secret"})
    assert connection.getresponse().status == 200
    connection.close()


def test_the_certificate_is_that_of_the_file(server, certificate):
    context = unverified()
    with (
        socket.create_connection(("127.0.0.1", server.port)) as plain,
        context.wrap_socket(plain) as encrypted_socket,
    ):
        shown = encrypted_socket.getpeercert(binary_form=True)
    assert hashlib.sha256(shown).hexdigest() == certificate[1].replace(":", "")
