"""Client and server of QUIC when something breaks: each fault ends in one clear error, soon."""

import random
import resource
import socket
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from quic_peers import (
    LONG,
    Served,
    ServerProcess,
    echo,
    eventually,
    free_udp_port,
    in_threads,
    thread_results,
)

from flash_transport import (
    Disconnected,
    FlashTransportPolicy,
    QuicServer,
    ServerError,
    Timeout,
)

PROMPTLY = 5.0
"""Seconds after which a lost server must be noticed: half of what silence alone takes."""


def test_a_server_that_is_not_there_is_named_with_what_to_check():
    port = free_udp_port()
    with pytest.raises(Disconnected) as raised:
        FlashTransportPolicy("127.0.0.1", port, connect_timeout=0.3)
    assert str(raised.value) == (
        f"cannot connect to 127.0.0.1:{port} within 0.3 s: nothing listens there; check that the "
        f"server runs, that host and port are right, and that UDP port {port} is open on the way"
    )


def test_a_silent_server_is_named_with_what_to_check():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        with pytest.raises(Disconnected, match=f"cannot connect to 127.0.0.1:{port} .*is silent"):
            FlashTransportPolicy("127.0.0.1", port, connect_timeout=0.3)


def test_a_host_without_an_address_is_named():
    with pytest.raises(Disconnected, match=r"cannot connect to no-such-host\.invalid:5555 .*name"):
        FlashTransportPolicy("no-such-host.invalid", connect_timeout=1.0)


def test_a_client_waits_for_a_server_that_starts_later():
    port = free_udp_port()
    with (
        thread_results(lambda: FlashTransportPolicy("127.0.0.1", port)) as results,
        Served(port=port),
    ):
        eventually(lambda: results[0] is not None)
        with results[0] as policy:
            assert policy.infer({"x": 1}, timeout=LONG)["echo"] == {"x": 1}


def test_a_port_in_use_is_named():
    with QuicServer("127.0.0.1", 0, metadata={}) as server:
        text = f"cannot listen on UDP 127.0.0.1:{server.port}: Address already in use"
        with pytest.raises(OSError, match=text):
            QuicServer("127.0.0.1", server.port, metadata={})


def test_an_address_of_another_machine_is_named():
    with pytest.raises(OSError, match=r"cannot listen on UDP 192\.0\.2\.1:0"):
        QuicServer("192.0.2.1", 0, metadata={})


def test_a_killed_server_ends_the_request_and_a_new_one_serves_the_same_client(tmp_path):
    with ServerProcess(certificate_dir=tmp_path) as server:
        policy = FlashTransportPolicy("127.0.0.1", server.port)
        assert policy.infer({"x": 1}, timeout=LONG) == {"x": 1}

        def wait_for_the_dead():
            with pytest.raises(Disconnected, match="was lost before the answer came"):
                policy.infer({"hold": True}, timeout=LONG)
            return time.monotonic()

        with thread_results(wait_for_the_dead) as results:
            assert server.next_line() == "holding"
            killed_at = time.monotonic()
            server.kill()
        assert results[0] - killed_at < PROMPTLY

    with pytest.raises(Disconnected, match="nothing listens there"):
        policy.infer({}, timeout=0.3)
    with ServerProcess(server.port, tmp_path):
        assert policy.infer({"x": 2}, timeout=LONG) == {"x": 2}
    policy.close()


def test_no_request_is_carried_out_twice_whenever_its_server_is_killed(tmp_path):
    ledger, asked, answered = tmp_path / "ledger", [], []
    server = ServerProcess(certificate_dir=tmp_path / "state", ledger=ledger)
    with FlashTransportPolicy("127.0.0.1", server.port) as policy:
        for life in range(4):
            for number in range(3 * life):
                name = f"{life}-{number}"
                asked.append(name)
                assert policy.infer({"id": name}, timeout=LONG) == {"id": name}
                answered.append(name)
            policy.reset()
            lost = f"{life}-lost"
            asked.append(lost)

            def wait_for_the_dead(name=lost):
                return policy.infer({"id": name, "hold": True}, timeout=LONG)

            with thread_results(wait_for_the_dead) as results:
                assert server.next_line() == "holding"
                server.kill()
            assert isinstance(results[0], Disconnected)
            server = ServerProcess(server.port, tmp_path / "state", ledger)
        assert policy.infer({"id": "last"}, timeout=LONG) == {"id": "last"}
    server.kill()
    begun = ledger.read_text().split("\n")
    inferences = [line.removeprefix("infer ") for line in begun if line.startswith("infer")]
    assert inferences == [*asked, "last"]
    assert sum(line.startswith("reset") for line in begun) == 4


def test_a_killed_server_does_not_hold_a_request_beyond_its_timeout():
    with ServerProcess() as server:
        policy = FlashTransportPolicy("127.0.0.1", server.port)

        def wait_for_the_dead():
            with pytest.raises((Timeout, Disconnected)):
                policy.infer({"hold": True}, timeout=0.5)
            return time.monotonic()

        asked_at = time.monotonic()
        with thread_results(wait_for_the_dead) as results:
            assert server.next_line() == "holding"
            server.kill()
        assert results[0] - asked_at < PROMPTLY
        policy.close()


def test_a_server_restarted_between_requests_costs_at_most_one(tmp_path):
    with ServerProcess(certificate_dir=tmp_path) as server:
        policy = FlashTransportPolicy("127.0.0.1", server.port)
        assert policy.infer({"x": 1}, timeout=LONG) == {"x": 1}
    # the client may not have noticed yet
    with ServerProcess(server.port, tmp_path):
        started_at = time.monotonic()
        try:
            answer = policy.infer({"x": 2}, timeout=LONG)
        except Disconnected:
            answer = policy.infer({"x": 2}, timeout=LONG)
        assert answer == {"x": 2}
        assert time.monotonic() - started_at < PROMPTLY
    policy.close()


def test_short_timeouts_come_to_a_connection_after_a_restart(tmp_path):
    with ServerProcess(certificate_dir=tmp_path) as server:
        policy = FlashTransportPolicy("127.0.0.1", server.port)
    with ServerProcess(server.port, tmp_path):

        def answered():
            try:
                return policy.infer({"x": 1}, timeout=0.05) == {"x": 1}
            except (Timeout, Disconnected):
                return False

        eventually(answered)
    policy.close()


def test_a_closing_server_tells_whose_request_it_had_begun_that_nobody_knows_what_came_of_it():
    held = []
    with Served(held.append) as served:
        policy = FlashTransportPolicy("127.0.0.1", served.port)
        with thread_results(lambda: policy.infer({}, timeout=LONG)) as results:
            eventually(lambda: held)
            served.server.close()
        assert isinstance(results[0], Disconnected)
        assert "the server stopped before it had answered" in str(results[0])
        assert held[0].cancelled
        # late, but harmless
        held[0].respond({})
    with pytest.raises(Disconnected):
        policy.infer({}, timeout=0.3)
    policy.close()


def test_a_closing_server_tells_whose_request_it_had_not_begun_to_try_again():
    server = QuicServer("127.0.0.1", 0, metadata={})
    policy = FlashTransportPolicy("127.0.0.1", server.port, connect_timeout=1.0)
    with thread_results(lambda: policy.infer({}, timeout=LONG)) as results:
        eventually(lambda: server.counters["requests_accepted"] == 1)
        server.close()
    # the client has tried again by itself, and found nobody
    assert isinstance(results[0], Disconnected)
    assert "nothing listens there" in str(results[0])
    policy.close()


def test_a_request_that_a_closing_server_had_not_begun_is_answered_by_the_next(tmp_path):
    server = QuicServer("127.0.0.1", 0, metadata={}, certificate_dir=tmp_path)
    policy = FlashTransportPolicy("127.0.0.1", server.port)
    future = policy.submit({"n": 2}, timeout=LONG)
    with thread_results(lambda: policy.infer({"n": 1}, timeout=LONG)) as results:
        eventually(lambda: server.counters["requests_accepted"] == 2)
        server.close()
        with Served(port=server.port, certificate_dir=tmp_path):
            assert future.result(LONG)["echo"] == {"n": 2}
            eventually(lambda: results[0] is not None)
    assert results[0]["echo"] == {"n": 1}
    policy.close()


def test_an_answer_given_before_closing_arrives():
    answer = {"actions": np.arange(1_000_000)}

    def respond(request):
        request.respond(answer)
        threading.Thread(target=served.server.close).start()

    for _ in range(5):
        with Served(respond) as served:
            policy = FlashTransportPolicy("127.0.0.1", served.port)
            assert np.array_equal(policy.infer({}, timeout=LONG)["actions"], answer["actions"])
            policy.close()


def test_closing_a_server_ends_the_wait_for_requests_and_is_idempotent():
    server = QuicServer("127.0.0.1", 0, metadata={})
    with thread_results(server.next_request, server.next_request) as results:
        server.close()
        server.close()
    assert results == [None, None]
    assert server.next_request() is None


def test_waiting_for_a_request_ends_with_its_time():
    with QuicServer("127.0.0.1", 0, metadata={}) as server:
        assert server.next_request(timeout=0) is None
        assert server.next_request(timeout=0.12) is None


def test_a_port_is_free_again_after_closing():
    server = QuicServer("127.0.0.1", 0, metadata={})
    server.close()
    QuicServer("127.0.0.1", server.port, metadata={}).close()


def test_an_oversize_request_is_refused_and_costs_nothing_else():
    with (
        Served(max_message_bytes=100_000) as served,
        FlashTransportPolicy("127.0.0.1", served.port) as policy,
    ):
        with pytest.raises(ServerError) as raised:
            policy.infer({"image": np.zeros(5_000_000, np.uint8)}, timeout=LONG)
        assert raised.value.code == "bad_request"
        assert raised.value.message == "request is larger than 100000 bytes"
        assert policy.infer({"x": 1}, timeout=LONG)["echo"] == {"x": 1}
        assert served.server.counters["requests_refused"] == 1


def test_requests_that_wait_hold_no_more_than_their_clients_part():
    held = []
    image = {"image": np.zeros(99_000, np.uint8)}
    with Served(held.append, max_message_bytes=100_000) as served:
        greedy = FlashTransportPolicy("127.0.0.1", served.port)
        modest = FlashTransportPolicy("127.0.0.1", served.port)

        def ask_both(policy):
            return lambda: policy.infer(image, timeout=LONG)

        with thread_results(ask_both(greedy), ask_both(greedy)) as results:
            eventually(lambda: len(held) == 2)
            with pytest.raises(ServerError, match="not_ready: unanswered requests hold 200000"):
                greedy.infer(image, timeout=0.1)
            with thread_results(ask_both(modest)) as modest_results:
                eventually(lambda: len(held) == 3)
                held.pop().respond({})
            assert modest_results == [{}]
            while held:
                held.pop().respond({})
        assert results == [{}, {}]
        greedy.close()
        modest.close()


def garbage_datagrams(seed, count):
    """Noise, and what looks like QUIC for longer and longer before it turns out to be noise."""
    noise = random.Random(seed)
    starts = (
        b"",
        # long headers: version 1, version negotiation, an unknown version
        b"\xc0\x00\x00\x00\x01\x08",
        b"\xc0\x00\x00\x00\x00\x08",
        b"\xff\xfa\xce\xb0\x0c\x14",
        # a short header
        b"\x40",
    )
    for _ in range(count):
        yield noise.choice(starts) + noise.randbytes(noise.choice((0, 1, 20, 100, 1200, 1452)))


def resident_bytes():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def test_a_flood_of_garbage_datagrams_is_counted_and_leaves_nothing_behind():
    datagrams = list(garbage_datagrams(seed=1, count=2000))
    with Served() as served, FlashTransportPolicy("127.0.0.1", served.port) as policy:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:

            def flood(times):
                for _ in range(times):
                    for number, datagram in enumerate(datagrams):
                        stranger.sendto(datagram, ("127.0.0.1", served.port))
                        if number % 100 == 0:
                            # so that the kernel drops few, and because service goes on
                            policy.infer({}, timeout=LONG)

            flood(2)
            before = resident_bytes()
            flood(10)
            growth = resident_bytes() - before
        counters = served.server.counters
    # 24,000 datagrams, 10 MB; what is kept of each would show
    assert growth < 4 << 20, f"{growth} bytes"
    assert counters["datagrams_garbage"] > 10_000
    assert counters["datagrams_garbage"] < counters["datagrams_received"]
    assert counters["connections_accepted"] == 1
    assert served.server.connections == 0


def test_garbage_datagrams_disturb_nobody():
    with Served() as served:
        stop = threading.Event()

        def flood():
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
                sent = 0
                while not stop.is_set():
                    for datagram in garbage_datagrams(seed=sent, count=100):
                        stranger.sendto(datagram, ("127.0.0.1", served.port))
                        sent += 1
                return sent

        def work():
            with FlashTransportPolicy("127.0.0.1", served.port) as policy:
                image = np.random.default_rng(0).integers(0, 256, 100_000, np.uint8)
                answers = [policy.infer({"image": image}, timeout=LONG) for _ in range(20)]
                return all(np.array_equal(answer["echo"]["image"], image) for answer in answers)

        with thread_results(flood) as floods:
            try:
                assert in_threads(work, work, work) == [True] * 3
            finally:
                stop.set()
        assert floods[0] >= 100


def test_a_client_that_does_not_read_its_answer_disturbs_nobody():
    with Served(lambda request: request.respond({"a": np.zeros(8_000_000)})) as served:
        impatient = FlashTransportPolicy("127.0.0.1", served.port)
        with pytest.raises(Timeout):
            impatient.infer({}, timeout=0.001)
        with FlashTransportPolicy("127.0.0.1", served.port) as policy:
            assert policy.infer({}, timeout=LONG)["a"].size == 8_000_000
        impatient.close()


def test_a_handler_that_answers_late_is_not_in_the_way_of_others():
    held = []

    def hold_some(request):
        if request.observation.get("hold"):
            held.append(request)
        else:
            echo(request)

    with Served(hold_some) as served, FlashTransportPolicy("127.0.0.1", served.port) as policy:
        with thread_results(lambda: policy.infer({"hold": True}, timeout=LONG)) as results:
            eventually(lambda: held)
            for number in range(5):
                answer = policy.infer({"number": number}, timeout=LONG)
                assert answer["echo"] == {"number": number}
            held[0].respond({"late": True})
        assert results == [{"late": True}]
