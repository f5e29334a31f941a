"""Connections of the session API, which go on to a unix socket: here one that answers when told."""

import contextlib
import threading
import urllib.request

import pytest
import websockets.exceptions
import websockets.sync.client
import websockets.sync.server

from flash_transport import WebsocketServer

LARGEST = 1 << 20
"""Bytes of a message; a connection holds twice that."""
WAIT = 30.0


class SessionApi:
    """Answers each message with its length in text, or, while held, with nothing."""

    def __init__(self, stack, path):
        self.messages = []
        self.may_answer = threading.Event()
        self.may_answer.set()
        server = websockets.sync.server.unix_serve(
            self._talk, str(path), compression=None, max_size=None, process_request=self._page
        )
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        stack.callback(thread.join)
        stack.callback(server.shutdown)
        # a test that fails leaves nobody waiting
        stack.callback(self.may_answer.set)

    def _page(self, connection, request):
        return connection.respond(200, "a page\n") if request.path.endswith("models") else None

    def _talk(self, connection):
        for message in connection:
            self.messages.append(message)
            self.may_answer.wait()
            connection.send(str(len(message)))


class Port:
    """A WebSocket port before a session API."""

    def __init__(self, stack, path):
        self._stack = stack
        self.api = SessionApi(stack, path)
        server = WebsocketServer(
            "127.0.0.1", 0, metadata={}, max_message_bytes=LARGEST, sessions_socket=path
        )
        stack.callback(server.close)
        self.address = f"127.0.0.1:{server.port}"

    def connect(self):
        return self._stack.enter_context(
            websockets.sync.client.connect(
                f"ws://{self.address}/api/v1/session", compression=None, max_size=None
            )
        )


def send_all_and_wait(client, count):
    for _ in range(count):
        client.send(bytes(LARGEST))
    client.recv(WAIT)


@pytest.fixture
def port(tmp_path):
    with contextlib.ExitStack() as stack:
        yield Port(stack, tmp_path / "sessions.sock")


def test_messages_come_through_whole_however_they_are_cut(port):
    client = port.connect()
    for message in ("text", b"bytes", [b"cut", b"", b" in parts"], b"", bytes(70_000)):
        client.send(message)
        client.recv(WAIT)
    assert client.ping().wait(WAIT)
    assert port.api.messages == ["text", b"bytes", b"cut in parts", b"", bytes(70_000)]


def test_what_the_session_api_has_answered_is_counted_no_longer(port):
    client = port.connect()
    for _ in range(20):
        client.send(bytes(LARGEST))
        assert client.recv(WAIT) == str(LARGEST)


def test_a_client_cannot_have_more_unanswered_than_its_connection_may_hold(port):
    port.api.may_answer.clear()
    client, bystander = port.connect(), port.connect()
    with pytest.raises(websockets.exceptions.ConnectionClosed) as closed:
        send_all_and_wait(client, 20)
    assert closed.value.rcvd.code == 1013
    assert "unanswered requests hold" in closed.value.rcvd.reason
    assert len(port.api.messages) <= 3
    # what it held is free
    port.api.may_answer.set()
    bystander.send(bytes(LARGEST))
    assert bystander.recv(WAIT) == str(LARGEST)


def test_a_message_that_is_too_large_ends_its_connection_with_the_code_for_that(port):
    client = port.connect()
    client.send(bytes(LARGEST + 1))
    with pytest.raises(websockets.exceptions.ConnectionClosed) as closed:
        client.recv(WAIT)
    assert closed.value.rcvd.code == 1009
    assert port.api.messages == []


def test_a_page_of_the_session_api_is_passed_on(port):
    with urllib.request.urlopen(f"http://{port.address}/api/v1/models", timeout=WAIT) as page:
        assert page.read() == b"a page\n"


def test_a_close_is_answered(port):
    client = port.connect()
    client.close(1000, "done")
    assert client.close_code == 1000
