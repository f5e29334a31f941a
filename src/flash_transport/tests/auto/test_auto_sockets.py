"""The client that chooses its transport, over real sockets."""

import collections
import contextlib
import logging
import socket
import ssl
import threading

import numpy as np
import pytest
from contract_handlers import Held, echo
from policy_contract import free_tcp_port, serve_websocket
from quic_peers import LONG, Served, eventually, free_udp_port
from shut_path import Path, TcpPath
from websockets.sync.server import serve

from flash_transport import (
    AutoTransportPolicy,
    Disconnected,
    FlashTransportError,
    QuicServer,
    Superseded,
    Timeout,
    UntrustedServer,
    packb,
)


@contextlib.contextmanager
def websocket(handle=echo, *, tls=None, api_keys=(), metadata=None):
    """A WebSocket server; its port."""
    port = free_tcp_port()
    with serve_websocket(handle, metadata or {}, port, list(api_keys), tls=tls):
        yield port


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """TLS with the certificate of a QUIC server, and its fingerprint."""
    directory = tmp_path_factory.mktemp("certificate")
    with QuicServer("127.0.0.1", 0, certificate_dir=directory) as server:
        fingerprint = server.fingerprint
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "flash_transport.pem")
    return context, fingerprint


@pytest.fixture
def silent_port():
    """A UDP port that answers nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        yield silent.getsockname()[1]


def connect(udp_port, tcp_port, **options):
    options = {"connect_timeout": LONG, **options}
    return AutoTransportPolicy("127.0.0.1", udp_port, websocket_port=tcp_port, **options)


def test_where_quic_answers_it_is_used(caplog):
    caplog.set_level(logging.INFO, "flash_transport")
    with (
        Served(echo, metadata={"of": "quic"}) as quic,
        websocket() as tcp_port,
        connect(quic.port, tcp_port) as policy,
    ):
        answer, stats = policy.infer_with_stats({"x": 1}, timeout=LONG)
        assert answer == {"echo": {"x": 1}}
        assert stats.transport == policy.transport == "quic"
        assert policy.get_server_metadata() == {"of": "quic"}
        assert "quic" in repr(policy)
    assert "go over QUIC" in caplog.text


def test_where_nobody_listens_on_the_udp_port_websocket_is_used_and_the_log_says_why(caplog):
    with websocket() as tcp_port, connect(free_udp_port(), tcp_port) as policy:
        answer, stats = policy.infer_with_stats({"x": 1}, timeout=LONG)
        assert answer == {"echo": {"x": 1}}
        assert stats.transport == policy.transport == "websocket"
        assert policy.transport_reason == "over QUIC nothing listens there"
        future = policy.submit({"x": 2}, timeout=LONG)
        assert future.result(LONG) == {"echo": {"x": 2}}
        assert future.stats.transport == "websocket"
    (line,) = [r.getMessage() for r in caplog.records if "go over" in r.getMessage()]
    assert "over WebSocket" in line
    assert line.endswith("over QUIC nothing listens there")


def test_where_the_udp_port_is_silent_websocket_is_used(silent_port):
    with websocket() as tcp_port, connect(silent_port, tcp_port) as policy:
        assert policy.transport == "websocket"
        assert policy.infer({"x": 1}, timeout=LONG) == {"echo": {"x": 1}}


def test_requests_go_back_to_quic_when_it_works(caplog):
    udp_port = free_udp_port()
    with websocket() as tcp_port, connect(udp_port, tcp_port) as policy:
        assert policy.transport == "websocket"
        with Served(port=udp_port):
            eventually(lambda: policy.transport == "quic")
            assert policy.infer_with_stats({}, timeout=LONG)[1].transport == "quic"
            assert policy.transport_reason == "it works again"
    assert "go over QUIC again" in caplog.text


def test_where_tcp_is_lost_and_udp_works_again_what_was_not_begun_goes_over_quic():
    held = Held()
    tcp_port = free_tcp_port()
    with (
        Served(echo) as quic,
        Path(quic.port) as path,
        serve_websocket(held, {"supports": ["session", "deadline_ms"]}, tcp_port, []) as endpoint,
    ):
        path.is_open = False
        with connect(path.port, tcp_port) as policy:
            begun = policy.submit({"x": 1}, timeout=LONG)
            held.wait_for(1)
            observation = {"x": np.arange(3)}
            waiting = policy.submit(observation, timeout=LONG)
            path.is_open = True
            observation["x"] += 1
            endpoint.stop()
            with pytest.raises(Disconnected, match="was lost before the answer came"):
                begun.result(LONG)
            answer = waiting.result(LONG)
            assert list(answer["echo"]) == ["x"]
            assert answer["echo"]["x"].tolist() == [0, 1, 2]
            assert waiting.stats.transport == policy.transport == "quic"
            assert policy.infer({"x": 3}, timeout=LONG) == {"echo": {"x": 3}}


def test_back_on_quic_a_newer_observation_supersedes_what_still_waits_for_websocket():
    held = Held()
    with (
        Served(echo) as quic,
        Path(quic.port) as path,
        websocket(held, metadata={"supports": ["session"]}) as tcp_port,
    ):
        path.is_open = False
        with connect(path.port, tcp_port) as policy:
            begun = policy.submit({"x": 1})
            held.wait_for(1)
            older, other = policy.submit({"x": 2}), policy.submit({"x": 3, "session": "leg"})
            path.is_open = True
            eventually(lambda: policy.transport == "quic")
            newer = policy.submit({"x": 4})
            assert newer.result(LONG) == {"echo": {"x": 4}}
            with pytest.raises(Superseded, match="a newer observation"):
                older.result(LONG)
            held.wait_for(1).respond({"y": 1})
            held.wait_for(2).respond({"y": 3})
            assert begun.result(LONG) == {"y": 1}
            assert other.result(LONG) == {"y": 3}


def test_a_server_that_ends_each_connection_is_not_asked_for_the_next_without_end():
    asked = []

    def hang_up(connection):
        asked.append(connection)
        connection.send(packb({}))

    server = serve(hang_up, "127.0.0.1", 0)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with connect(free_udp_port(), server.socket.getsockname()[1]) as policy:
            for _ in range(3):
                with pytest.raises(Disconnected):
                    policy.infer({})
                with pytest.raises(Disconnected):
                    policy.submit({}).result(LONG)
    finally:
        server.shutdown()
        thread.join()
    # one for each request, and some more where the machine is slow
    assert len(asked) <= 20


def test_where_neither_answers_the_error_names_both(silent_port):
    with pytest.raises(Disconnected) as raised:
        connect(silent_port, free_tcp_port(), connect_timeout=1.0)
    text = str(raised.value)
    assert f"cannot connect to 127.0.0.1:{silent_port} within 1 s: QUIC: " in text
    assert "WebSocket: " in text


def test_a_pinned_server_is_reached_over_tls_with_the_same_pin(certificate, silent_port):
    tls, fingerprint = certificate
    with websocket(tls=tls, api_keys=["k"]) as tcp_port:
        options = {"server_fingerprint": fingerprint, "api_key": "k"}
        with connect(silent_port, tcp_port, **options) as policy:
            assert policy.infer({"x": 1}, timeout=LONG) == {"echo": {"x": 1}}
        with pytest.raises(UntrustedServer, match="not the pinned"):
            connect(silent_port, tcp_port, server_fingerprint="ab" * 32)


def test_a_first_use_over_tls_is_remembered_by_the_name_of_quic(certificate, tmp_path):
    tls, fingerprint = certificate
    known, udp_port = tmp_path / "known", free_udp_port()
    with websocket(tls=tls) as tcp_port, connect(udp_port, tcp_port, known_servers=known):
        pass
    assert known.read_text() == f"127.0.0.1:{udp_port} sha256:{fingerprint}\n"


def test_a_pinned_server_without_tls_is_not_used_unless_the_user_allows_it(certificate):
    options = {"server_fingerprint": certificate[1], "connect_timeout": 1.0}
    with websocket() as tcp_port:
        with pytest.raises(Disconnected, match=r"could not be verified.* insecure_fallback"):
            connect(free_udp_port(), tcp_port, **options)
        options |= {"insecure_fallback": True, "connect_timeout": LONG}
        with connect(free_udp_port(), tcp_port, **options) as policy:
            assert policy.transport == "websocket"


def test_a_quic_server_with_another_certificate_ends_the_search(certificate):
    with (
        Served() as quic,
        websocket(tls=certificate[0]) as tcp_port,
        pytest.raises(UntrustedServer, match="not the pinned"),
    ):
        connect(quic.port, tcp_port, server_fingerprint=certificate[1])


def test_beside_another_port_there_is_no_fallback_unless_it_is_given():
    with pytest.raises(Disconnected, match="websocket_port beside port"):
        connect(free_udp_port(), None, connect_timeout=0.3)


def test_a_unix_socket_leaves_nothing_to_choose():
    with pytest.raises(ValueError, match="FlashTransportPolicy"):
        AutoTransportPolicy("unix:/run/x.sock")


def test_on_paths_that_flap_each_request_is_answered_once_or_ends_in_an_error():
    begun, lock = {}, threading.Lock()

    def count(request):
        number = request.observation["n"]
        with lock:
            begun[number] = begun.get(number, 0) + 1
        request.respond({"n": number})

    supports = {"supports": ["session"]}
    answered, failed = set(), {}
    with (
        Served(count, metadata=supports) as quic,
        Path(quic.port) as path,
        websocket(count, metadata=supports) as tcp_port,
        TcpPath(tcp_port) as tcp_path,
        connect(path.port, tcp_path.port) as policy,
    ):
        used = collections.Counter()
        stop = threading.Event()

        def ask(first):
            number = first
            while not stop.is_set():
                observation = {"n": number, "session": f"robot {first}"}
                try:
                    if number % 2:
                        answer, stats = policy.infer_with_stats(observation, timeout=1.0)
                    else:
                        future = policy.submit(observation, timeout=1.0)
                        answer, stats = future.result(LONG), future.stats
                    assert answer == {"n": number}
                    answered.add(number)
                    used[stats.transport] += 1
                except (Timeout, FlashTransportError) as error:
                    failed[number] = error
                number += 3

        threads = [threading.Thread(target=ask, args=(first,)) for first in range(3)]
        for thread in threads:
            thread.start()
        both, udp, tcp = (True, True), (True, False), (False, True)
        for is_open in (both, tcp, both, tcp, udp, tcp, both):
            path.is_open, tcp_path.is_open = is_open
            transport = "quic" if path.is_open else "websocket"
            before = used[transport]
            eventually(lambda name=transport, count=before: used[name] > count + 3)
        stop.set()
        for thread in threads:
            thread.join(LONG)
            assert not thread.is_alive()
    assert not answered & set(failed)
    assert max(begun.values()) == 1
    assert all(isinstance(error, (Timeout, Disconnected)) for error in failed.values()), failed
