"""A WebSocket port with a certificate: `wss://`, and still `ws://`."""

import hashlib
import ssl

import numpy as np
import pytest
import websockets.sync.client
from served_slot import connect, get
from server_fakes import WAIT

from flash_transport import QuicServer, packb, unpackb
from openpi_flash_server.transports.quic import OwnCertificate


def test_a_certificate_opens_the_port_to_wss_and_leaves_it_open_to_ws(serve_websocket, tmp_path):
    with QuicServer("127.0.0.1", 0, metadata={}, certificate_dir=tmp_path) as made:
        fingerprint = made.fingerprint
    (pem,) = tmp_path.iterdir()
    server = serve_websocket(certificate=OwnCertificate(pem, pem))
    # recognised by its fingerprint below
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    uri = f"wss://127.0.0.1:{server.port}"
    ask = packb({"state": np.ones(2), "image": np.zeros((480, 640, 3), np.uint8)})
    with (
        websockets.sync.client.connect(uri, ssl=context, compression=None) as encrypted,
        connect(server) as plain,
    ):
        certificate = encrypted.socket.getpeercert(binary_form=True)
        assert hashlib.sha256(certificate).hexdigest() == fingerprint
        for client in (encrypted, plain):
            assert unpackb(client.recv(WAIT))["robot"] == "two_joints"
            client.send(ask)
            assert unpackb(client.recv(WAIT))["actions"].shape == (3, 2)
    assert get(server) == (200, "OK\n")


def test_tls_on_a_port_without_a_certificate_is_refused_and_hurts_nobody(serve_websocket):
    server = serve_websocket()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    uri = f"wss://127.0.0.1:{server.port}"
    with pytest.raises(ssl.SSLError):
        websockets.sync.client.connect(uri, ssl=context, open_timeout=WAIT)
    assert get(server) == (200, "OK\n")
