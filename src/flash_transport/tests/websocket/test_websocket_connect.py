"""How the WebSocket client finds its server, and what it says when it does not."""

# ruff: noqa: SIM117 - a server, its client and what is expected of them, inside each other

import itertools
import socket
import ssl
import threading

import pytest
import websockets.sync.server
from openpi_server import SHORT, SOON, in_thread, serving
from websockets.http11 import Request

import flash_transport
from flash_transport import (
    AuthenticationFailed,
    Disconnected,
    FlashTransportError,
    ServerError,
    Timeout,
    UntrustedServer,
    WebsocketPolicy,
)


@pytest.fixture
def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "ws://127.0.0.1"])
def test_the_server_may_be_named_in_many_ways(server, host):
    with WebsocketPolicy(host, server.port) as policy:
        assert policy.infer({"a": 1}) == {"a": 1}


def test_a_whole_uri_needs_no_port(server):
    with WebsocketPolicy(f"ws://127.0.0.1:{server.port}/any/path") as policy:
        assert policy.infer({"a": 1}) == {"a": 1}


def test_an_ipv6_address_goes_into_brackets(free_port):
    with pytest.raises(FlashTransportError, match=rf"ws://\[::1\]:{free_port}"):
        WebsocketPolicy("::1", free_port, connect_timeout=SHORT)


def test_a_bare_host_means_openpis_port():
    with pytest.raises(Disconnected, match="ws://no-such-host.invalid:8000: cannot look up"):
        WebsocketPolicy("no-such-host.invalid", connect_timeout=SHORT)


def refusing(status, text):
    return lambda connection, request: connection.respond(status, text)


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_api_key_is_an_error_of_its_own_and_is_not_tried_again(status):
    requests = []

    def refuse(connection, request: Request):
        requests.append(request)
        return connection.respond(status, "no such key\n")

    with serving(process_request=refuse) as server:
        with pytest.raises(AuthenticationFailed, match="refused the api key: no such key$"):
            WebsocketPolicy("127.0.0.1", server.port, api_key="wrong")
    assert len(requests) == 1


def test_a_server_that_is_not_ready_for_too_long_is_said_to_be():
    with serving(process_request=refusing(503, "not_ready: loading weights\n")) as server:
        with pytest.raises(ServerError, match="loading weights") as caught:
            WebsocketPolicy("127.0.0.1", server.port, connect_timeout=SHORT)
    assert (caught.value.code, caught.value.message) == ("not_ready", "loading weights")


def test_a_server_that_gets_ready_is_waited_for():
    attempts = itertools.count()

    def not_ready_twice(connection, request):
        return connection.respond(503, "starting") if next(attempts) < 2 else None

    with serving(process_request=not_ready_twice) as server:
        with WebsocketPolicy("127.0.0.1", server.port, connect_timeout=SOON) as policy:
            assert policy.infer({"a": 1}) == {"a": 1}


def test_a_server_that_comes_up_later_is_waited_for(free_port):
    with in_thread(lambda: WebsocketPolicy("127.0.0.1", free_port)) as connecting:
        with serving(port=free_port), connecting.result() as policy:
            assert policy.infer({"a": 1}) == {"a": 1}


def test_a_port_where_nothing_listens_is_named(free_port):
    with pytest.raises(
        Disconnected,
        match=rf"cannot connect to ws://127.0.0.1:{free_port} within 0.15 s: .*refused",
    ):
        WebsocketPolicy("127.0.0.1", free_port, connect_timeout=SHORT)


def test_a_server_that_says_nothing_ends_in_a_timeout():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        with pytest.raises(Timeout, match="within 0.15 s: it does not answer"):
            WebsocketPolicy("127.0.0.1", silent.getsockname()[1], connect_timeout=SHORT)


def test_a_server_without_metadata_ends_in_a_timeout():
    with websockets.sync.server.serve(lambda connection: connection.recv(), "127.0.0.1", 0) as mute:
        thread = threading.Thread(target=mute.serve_forever)
        thread.start()
        with pytest.raises(Timeout, match="it does not answer"):
            WebsocketPolicy("127.0.0.1", mute.socket.getsockname()[1], connect_timeout=SHORT)
        mute.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"SSH-2.0-OpenSSH_9.6\r\n", "(valid HTTP response|SSH-2.0)"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "HTTP 404"),
    ],
)
def test_a_server_of_another_protocol_is_said_to_be_one(answer, reason):
    def speak():
        connection, _ = listener.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener, in_thread(speak):
        with pytest.raises(Disconnected, match=f"does not speak openpi's protocol: .*{reason}"):
            WebsocketPolicy("127.0.0.1", listener.getsockname()[1], connect_timeout=SOON)


def test_metadata_that_is_no_map_is_of_another_protocol(server):
    server.metadata = [1, 2]
    with pytest.raises(
        Disconnected, match="does not speak openpi's protocol: message is list, expected a map"
    ):
        WebsocketPolicy("127.0.0.1", server.port)


def test_a_certificate_that_nobody_vouches_for_is_not_trusted(tmp_path):
    flash_transport.QuicServer("127.0.0.1", 0, metadata={}, certificate_dir=str(tmp_path)).close()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    (certificate,) = tmp_path.iterdir()
    context.load_cert_chain(certificate)
    with serving(ssl=context) as server:
        with pytest.raises(UntrustedServer, match="is not valid: .*self-signed"):
            WebsocketPolicy("wss://127.0.0.1", server.port)
