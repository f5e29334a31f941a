"""The WebSocket client against a server of openpi's protocol, and what networks do to both."""

# ruff: noqa: SIM117 - a server, its client and what is expected of them, inside each other

import contextlib
import gc
import itertools
import socket
import ssl
import subprocess
import sys
import threading

import numpy as np
import pytest
import websockets.sync.server
from openpi_client import msgpack_numpy
from openpi_client.websocket_client_policy import WebsocketClientPolicy
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request
from websockets.server import ServerProtocol

import flash_transport
from flash_transport import (
    AuthenticationFailed,
    CodecError,
    Disconnected,
    FlashTransportError,
    ServerError,
    Superseded,
    Timeout,
    UntrustedServer,
    WebsocketPolicy,
    packb,
)

SOON = 10.0
"""Seconds in which everything here happens, on any machine; nothing waits for their end."""
SHORT = 0.15
"""Seconds in which something does not happen."""

OPENPI_CONNECTS_AS_EVER = pytest.mark.filterwarnings(
    r"ignore:connect\(\) must be used as a context manager:DeprecationWarning"
)


class OpenpiServer:
    """A server of openpi's protocol, answered by `answer(observation, connection_number)`.

    What it returns is sent: a dict packed, a str as openpi sends a traceback, bytes as they are.
    """

    def __init__(self, answer=lambda observation, number: observation, port=0, **options):
        self.answer = answer
        self.metadata = {"model": "pi0"}
        self.headers = []
        self.connections = []
        self._numbers = itertools.count()
        self._server = websockets.sync.server.serve(
            self._talk, "127.0.0.1", port, compression=None, max_size=None, **options
        )
        self.port = self._server.socket.getsockname()[1]
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def _talk(self, connection):
        number = next(self._numbers)
        self.headers.append(connection.request.headers)
        self.connections.append(connection)
        with contextlib.suppress(ConnectionClosed):
            connection.send(msgpack_numpy.packb(self.metadata))
            while True:
                answer = self.answer(msgpack_numpy.unpackb(connection.recv()), number)
                if isinstance(answer, str):
                    connection.send(answer)
                    connection.close(1011, "Internal server error.")
                    return
                connection.send(answer if isinstance(answer, bytes) else packb(answer))

    def cut(self):
        """Every connection ends as when the process dies."""
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.socket.shutdown(socket.SHUT_RDWR)

    def close(self):
        self._server.shutdown()
        self._thread.join()
        self.cut()


@contextlib.contextmanager
def serving(*args, **kwargs):
    server = OpenpiServer(*args, **kwargs)
    try:
        yield server
    finally:
        server.close()


@contextlib.contextmanager
def in_thread(work):
    """Runs `work` beside the block; `.result()` is what came of it."""
    outcome = []

    def run():
        try:
            outcome.append((work(), None))
        except BaseException as error:
            outcome.append((None, error))

    thread = threading.Thread(target=run)
    thread.start()

    class Running:
        @staticmethod
        def result():
            thread.join(SOON)
            assert outcome, "still running"
            value, error = outcome[0]
            if error is not None:
                raise error
            return value

    yield Running
    thread.join(SOON)


@pytest.fixture
def server():
    with serving() as server:
        yield server


@pytest.fixture
def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


OBSERVATION = {
    "image": np.arange(224 * 224 * 3, dtype=np.uint8).reshape(224, 224, 3),
    "state": np.arange(7, dtype=np.float32),
    "prompt": "pick up the cube",
    "np": np.float32(1.5),
}


def assert_same(one, other):
    assert one.keys() == other.keys()
    for key, value in one.items():
        assert type(value) is type(other[key])
        assert np.array_equal(value, other[key])


@OPENPI_CONNECTS_AS_EVER
def test_answers_are_what_openpis_client_gets(server):
    with WebsocketPolicy("127.0.0.1", server.port) as policy:
        theirs = WebsocketClientPolicy("127.0.0.1", server.port)
        assert policy.get_server_metadata() == theirs.get_server_metadata() == {"model": "pi0"}
        for _ in range(2):
            answer = policy.infer(OBSERVATION)
            assert_same(answer, OBSERVATION)
            assert_same(answer, theirs.infer(OBSERVATION))
        theirs._ws.close()


def test_requests_are_the_bytes_that_openpis_client_sends(server, monkeypatch):
    received = []
    monkeypatch.setattr(msgpack_numpy, "unpackb", received.append)
    server.answer = lambda observation, number: {}
    with WebsocketPolicy("127.0.0.1", server.port) as policy:
        policy.infer(OBSERVATION)
    assert received == [msgpack_numpy.packb(OBSERVATION)]


def test_reset_says_nothing_to_the_server(server):
    server.answer = lambda observation, number: {"got": observation}
    with WebsocketPolicy("127.0.0.1", server.port) as policy:
        policy.reset()
        assert policy.infer({"a": 1}) == {"got": {"a": 1}}


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
    with pytest.raises(Disconnected, match="ws://no-such-host.invalid:8000 "):
        WebsocketPolicy("no-such-host.invalid", connect_timeout=SHORT)


@OPENPI_CONNECTS_AS_EVER
def test_the_api_key_is_sent_as_openpis_client_sends_it(server):
    WebsocketPolicy("127.0.0.1", server.port, api_key="secret").close()
    WebsocketClientPolicy("127.0.0.1", server.port, api_key="secret")._ws.close()
    WebsocketPolicy("127.0.0.1", server.port).close()
    keys = [headers.get("Authorization") for headers in server.headers]
    assert keys == ["Api-Key secret", "Api-Key secret", None]


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
        with pytest.raises(Timeout, match="within 0.15 s: it is silent"):
            WebsocketPolicy("127.0.0.1", silent.getsockname()[1], connect_timeout=SHORT)


def test_a_server_without_metadata_ends_in_a_timeout():
    with websockets.sync.server.serve(lambda connection: connection.recv(), "127.0.0.1", 0) as mute:
        thread = threading.Thread(target=mute.serve_forever)
        thread.start()
        with pytest.raises(Timeout, match="it is silent"):
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
        with pytest.raises(Disconnected, match=f"speaks another protocol: .*{reason}"):
            WebsocketPolicy("127.0.0.1", listener.getsockname()[1], connect_timeout=SOON)


def test_metadata_that_is_no_map_is_of_another_protocol(server):
    server.metadata = [1, 2]
    with pytest.raises(Disconnected, match="another protocol: message is list, expected a map"):
        WebsocketPolicy("127.0.0.1", server.port)


def test_a_certificate_that_nobody_vouches_for_is_not_trusted(tmp_path):
    flash_transport.QuicServer("127.0.0.1", 0, metadata={}, certificate_dir=str(tmp_path)).close()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    (certificate,) = tmp_path.iterdir()
    context.load_cert_chain(certificate)
    with serving(ssl=context) as server:
        with pytest.raises(UntrustedServer, match="is not valid: .*self-signed"):
            WebsocketPolicy("wss://127.0.0.1", server.port)


def test_an_answer_that_does_not_come_ends_in_a_timeout():
    hold = threading.Event()
    with serving(lambda observation, number: {"held": hold.wait(SOON)}) as server:
        with WebsocketPolicy("127.0.0.1", server.port) as policy:
            with pytest.raises(Timeout, match=rf"no answer from ws://.*:{server.port} within 0.15"):
                policy.infer({}, timeout=SHORT)
            hold.set()
            assert policy.infer({}) == {"held": True}


def test_a_late_answer_is_never_taken_for_the_next_ones():
    asked, late = threading.Event(), threading.Event()

    def answer(observation, number):
        if observation["n"] == 1:
            asked.set()
            late.wait(SOON)
        return observation

    with serving(answer) as server, WebsocketPolicy("127.0.0.1", server.port) as policy:
        with pytest.raises(Timeout):
            policy.infer({"n": 1}, timeout=SHORT)
        assert asked.is_set()
        late.set()
        assert [policy.infer({"n": n})["n"] for n in (2, 3)] == [2, 3]


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
def test_an_interrupted_request_leaves_no_answer_behind(server, interruption):
    with WebsocketPolicy("127.0.0.1", server.port) as policy:
        connection = policy._connection

        def recv(timeout=None):
            raise interruption

        recv_before, connection.recv = (
            connection.recv,
            lambda timeout=None: recv(timeout) if timeout != 0 else recv_before(timeout=0),
        )
        with pytest.raises(interruption):
            policy.infer({"n": 1})
        assert policy.infer({"n": 2}) == {"n": 2}


def test_no_time_at_all_is_a_timeout_too(server):
    with WebsocketPolicy("127.0.0.1", server.port) as policy:
        with pytest.raises(Timeout):
            policy.infer({"n": 1}, timeout=0)
        assert policy.infer({"n": 2}) == {"n": 2}


class NeverReads:
    """A server that shakes hands, says who it is, and reads no more."""

    def __enter__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        return self

    def _serve(self):
        self._connection, _ = self._listener.accept()
        protocol = ServerProtocol()
        protocol.receive_data(self._connection.recv(65536))
        (request,) = protocol.events_received()
        protocol.send_response(protocol.accept(request))
        protocol.send_binary(packb({}))
        for data in protocol.data_to_send():
            self._connection.sendall(data)

    def __exit__(self, *_):
        self._thread.join()
        self._connection.close()
        self._listener.close()


def test_a_server_that_does_not_read_cannot_hold_a_request_for_longer_than_it_has():
    with NeverReads() as server:
        policy = WebsocketPolicy("127.0.0.1", server.port)
        large = {"image": np.zeros(64 << 20, np.uint8)}
        with pytest.raises(Timeout):
            policy.infer(large, timeout=SHORT)
        policy.close()


def test_a_server_error_is_an_error_with_its_text_and_the_next_request_goes_on():
    def answer(observation, number):
        return "Traceback: KeyError 'state'" if observation["n"] == 1 else {"number": number}

    with serving(answer) as server, WebsocketPolicy("127.0.0.1", server.port) as policy:
        with pytest.raises(ServerError) as caught:
            policy.infer({"n": 1})
        assert caught.value.code == "internal"
        assert caught.value.message == "Traceback: KeyError 'state'"
        # at once: the server has hung up, or is about to
        assert policy.infer({"n": 2}) == {"number": 1}


def choose_ours(connection, offered):
    return "openpi-flash.1" if "openpi-flash.1" in offered else None


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("bad_request", ServerError),
        ("internal", ServerError),
        ("superseded", Superseded),
        ("unauthenticated", AuthenticationFailed),
    ],
)
def test_an_error_of_our_server_has_its_type_and_keeps_the_connection(code, error):
    def answer(observation, number):
        if observation["n"] == 1:
            return {"error": {"code": code, "message": "no image"}}
        return {"number": number}

    with serving(answer, select_subprotocol=choose_ours) as server:
        with WebsocketPolicy("127.0.0.1", server.port) as policy:
            with pytest.raises(error, match="no image") as caught:
                policy.infer({"n": 1})
            if error is ServerError:
                assert caught.value.code == code
            assert policy.infer({"n": 2}) == {"number": 0}


def test_an_answer_of_openpis_server_may_have_an_entry_named_error(server):
    with WebsocketPolicy("127.0.0.1", server.port) as policy:
        answer = {"error": {"code": "x", "message": "y"}}
        assert policy.infer(answer) == answer


@pytest.mark.parametrize(
    ("answer", "message"),
    [(b"\xc1", "0xc1"), (b"\x91\x01", "message is list, expected a map"), (b"", "cut off")],
)
def test_an_answer_that_cannot_be_read_costs_no_more_than_itself(answer, message):
    with serving(lambda o, number: answer if o["n"] == 1 else {"number": number}) as server:
        with WebsocketPolicy("127.0.0.1", server.port) as policy:
            with pytest.raises(CodecError, match=message):
                policy.infer({"n": 1})
            assert policy.infer({"n": 2}) == {"number": 0}


def test_an_observation_that_cannot_travel_costs_nothing(server):
    with WebsocketPolicy("127.0.0.1", server.port) as policy:
        with pytest.raises(CodecError, match=r"at \['image'\]: dtype complex128"):
            policy.infer({"image": np.zeros(3, complex)})
        assert policy.infer({"n": 2}) == {"n": 2}
        assert len(server.connections) == 1


def test_a_connection_lost_during_a_request_costs_that_request_only():
    def answer(observation, number):
        if observation["n"] == 1:
            server.cut()
        return {"number": number}

    with serving(answer) as server, WebsocketPolicy("127.0.0.1", server.port) as policy:
        with pytest.raises(Disconnected, match="lost before the answer came"):
            policy.infer({"n": 1})
        assert policy.infer({"n": 2}) == {"number": 1}


def test_a_connection_closed_between_requests_costs_nothing(server):
    with WebsocketPolicy("127.0.0.1", server.port) as policy:
        policy.infer({})
        server.connections[0].close()
        assert policy.infer({"n": 2}) == {"n": 2}


def test_a_restarted_server_is_found_again_and_asked_who_it_is(server):
    with WebsocketPolicy("127.0.0.1", server.port) as policy:
        policy.infer({})
        server.connections[0].close()
        server.close()
        with serving(lambda o, number: {"restarted": True}, port=server.port) as again:
            again.metadata = {"model": "pi05"}
            assert policy.infer({}) == {"restarted": True}
            assert policy.get_server_metadata() == {"model": "pi05"}


def test_a_server_that_stays_away_takes_no_longer_than_the_request_may(server):
    with WebsocketPolicy("127.0.0.1", server.port) as policy:
        server.connections[0].close()
        server.close()
        for _ in range(2):
            with pytest.raises(Disconnected, match="within 0.15 s: .*refused"):
                policy.infer({}, timeout=SHORT)


def test_a_server_that_hangs_up_before_it_says_who_it_is_is_tried_again():
    attempts = itertools.count()

    def hang_up_twice(connection, request):
        if next(attempts) < 2:
            connection.socket.shutdown(socket.SHUT_RDWR)

    with serving(process_request=hang_up_twice) as server:
        with WebsocketPolicy("127.0.0.1", server.port) as policy:
            assert policy.infer({"n": 1}) == {"n": 1}


def test_threads_share_a_client_and_each_gets_its_own_answers(server):
    wrong = []

    def work(thread):
        for number in range(25):
            asked = {"thread": thread, "number": number}
            if policy.infer(asked, timeout=SOON) != asked:
                wrong.append(asked)

    with WebsocketPolicy("127.0.0.1", server.port) as policy:
        threads = [threading.Thread(target=work, args=(thread,)) for thread in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert len(server.connections) == 1


def test_a_request_whose_turn_does_not_come_in_time_leaves_the_others_alone():
    asked, hold = threading.Event(), threading.Event()

    def answer(observation, number):
        asked.set()
        hold.wait(SOON)
        return observation

    with serving(answer) as server, WebsocketPolicy("127.0.0.1", server.port) as policy:
        with in_thread(lambda: policy.infer({"n": 1})) as first:
            asked.wait(SOON)
            with pytest.raises(Timeout, match="within 0.15 s"):
                policy.infer({"n": 2}, timeout=SHORT)
            hold.set()
            assert first.result() == {"n": 1}


def test_closing_ends_a_request_that_another_thread_waits_for():
    asked, hold = threading.Event(), threading.Event()

    def answer(observation, number):
        asked.set()
        hold.wait(SOON)
        return observation

    with serving(answer) as server:
        policy = WebsocketPolicy("127.0.0.1", server.port)
        with in_thread(lambda: policy.infer({"n": 1})) as waiting:
            asked.wait(SOON)
            policy.close()
            with pytest.raises(Disconnected, match="is closed"):
                waiting.result()
        hold.set()


def test_closing_ends_the_search_for_a_server(server):
    policy = WebsocketPolicy("127.0.0.1", server.port, connect_timeout=1000)
    server.connections[0].close()
    server.close()
    with in_thread(lambda: policy.infer({})) as searching:
        policy.close()
        with pytest.raises(Disconnected, match="is closed"):
            searching.result()


def test_a_closed_client_says_so_and_may_be_closed_again(server):
    with WebsocketPolicy("127.0.0.1", server.port) as policy:
        pass
    policy.close()
    with pytest.raises(Disconnected, match=rf"this client of ws://.*:{server.port} is closed"):
        policy.infer({})


def test_closing_says_goodbye():
    ended = threading.Event()
    codes = []

    def talk(connection):
        connection.send(packb({}))
        with pytest.raises(ConnectionClosed) as caught:
            connection.recv()
        codes.append(caught.value.rcvd.code)
        ended.set()

    with websockets.sync.server.serve(talk, "127.0.0.1", 0) as listener:
        thread = threading.Thread(target=listener.serve_forever)
        thread.start()
        WebsocketPolicy("127.0.0.1", listener.socket.getsockname()[1]).close()
        assert ended.wait(SOON)
        listener.shutdown()
        thread.join()
    assert codes == [1000]


def test_the_servers_pings_are_answered_between_requests(server):
    with WebsocketPolicy("127.0.0.1", server.port):
        assert server.connections[0].ping().wait(SOON)


def test_a_host_that_vanishes_is_noticed_by_the_kernel(server):
    # not by WebSocket pings, which openpi's server does not answer while it computes
    with WebsocketPolicy("127.0.0.1", server.port) as policy:
        sock = policy._connection.socket
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 5
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 20_000
        assert getattr(policy._connection, "ping_interval", None) is None


def run_without_websockets(code):
    hide = "import sys; sys.modules['websockets'] = None\n"
    return subprocess.run(
        [sys.executable, "-c", hide + code], capture_output=True, text=True, check=False
    )


def test_everything_else_works_without_the_websockets_package():
    result = run_without_websockets("import flash_transport; flash_transport.FlashTransportPolicy")
    assert (result.returncode, result.stderr) == (0, "")


def test_without_the_websockets_package_the_error_names_it():
    result = run_without_websockets("import flash_transport; flash_transport.WebsocketPolicy")
    assert "ImportError: the WebSocket client needs websockets 13 or newer" in result.stderr


def test_a_policy_that_is_dropped_lets_its_threads_go(server):
    policy = WebsocketPolicy("127.0.0.1", server.port)
    policy.submit({"n": 1}).result(SOON)
    threads = policy._courier._threads
    policy._connection.close()
    del policy
    gc.collect()
    for thread in threads:
        thread.join(SOON)
        assert not thread.is_alive()


def test_giving_up_a_request_that_waits_for_its_turn_leaves_the_others_connection_alone():
    asked, hold = threading.Event(), threading.Event()

    def answer(observation, number):
        asked.set()
        hold.wait(SOON)
        return {"number": number}

    with serving(answer) as server, WebsocketPolicy("127.0.0.1", server.port) as policy:
        with in_thread(lambda: policy.infer({"n": 1})) as first:
            asked.wait(SOON)
            future = policy.submit({"n": 2})
            assert future.cancel()
            hold.set()
            assert first.result() == {"number": 0}
        assert policy.infer({"n": 3}) == {"number": 0}


def test_a_deadline_goes_only_to_servers_of_ours():
    seen = []

    def answer(observation, number):
        seen.append(sorted(observation))
        return {}

    for choose in (None, choose_ours):
        with serving(answer, select_subprotocol=choose) as server:
            server.metadata = {"supports": ["deadline_ms"]}
            with WebsocketPolicy("127.0.0.1", server.port) as policy:
                policy.infer({"n": 1}, timeout=SOON)
    assert seen == [["n"], ["deadline_ms", "n"]]
