"""Client and server of QUIC over real sockets: what they do when all is well."""

import os
import signal
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest
from quic_peers import (
    LONG,
    Served,
    ServerProcess,
    echo,
    eventually,
    in_threads,
    thread_results,
)

from flash_transport import (
    CodecError,
    Disconnected,
    FlashTransportError,
    FlashTransportPolicy,
    QuicServer,
    ServerError,
    Superseded,
    Timeout,
)


def three_cameras(seed=0):
    random = np.random.default_rng(seed)
    return {
        "images": random.integers(0, 256, (3, 224, 224, 3), np.uint8),
        "observation/state": random.standard_normal(7).astype(np.float32),
        "prompt": "pick up the cube",
    }


def same(one, other):
    return one.keys() == other.keys() and all(
        np.array_equal(one[key], other[key])
        if isinstance(one[key], np.ndarray)
        # not a comparison of arrays
        else one[key] == other[key]
        for key in one
    )


def test_an_observation_comes_back_bit_for_bit():
    with Served() as served, FlashTransportPolicy("127.0.0.1", served.port) as policy:
        observation = three_cameras()
        answer = policy.infer(observation, timeout=LONG)
        assert same(answer["echo"], observation)
        for key in ("images", "observation/state"):
            assert answer["echo"][key].dtype == observation[key].dtype


def test_a_large_observation_comes_back_bit_for_bit():
    with Served() as served, FlashTransportPolicy("127.0.0.1", served.port) as policy:
        images = np.random.default_rng(1).integers(0, 256, (4, 1080, 1920, 3), np.uint8)
        answer = policy.infer({"images": images}, timeout=LONG)
        assert np.array_equal(answer["echo"]["images"], images)


def test_the_arrays_of_an_answer_are_views_on_one_received_buffer():
    def two_arrays(request):
        request.respond({"a": np.arange(100_000), "b": np.arange(7.0)})

    with Served(two_arrays) as served, FlashTransportPolicy("127.0.0.1", served.port) as policy:
        answer = policy.infer({}, timeout=LONG)
        assert np.array_equal(answer["a"], np.arange(100_000))
        for array in answer.values():
            assert not array.flags.writeable
            assert not array.flags.owndata
        start = min(array.__array_interface__["data"][0] for array in answer.values())
        end = max(array.__array_interface__["data"][0] + array.nbytes for array in answer.values())
        assert end - start < sum(array.nbytes for array in answer.values()) + 200


def test_the_observation_of_a_request_is_decoded_once():
    observations = []

    def twice(request):
        observations.extend([request.observation, request.observation])
        request.respond({})

    with Served(twice) as served, FlashTransportPolicy("127.0.0.1", served.port) as policy:
        policy.infer(three_cameras(), timeout=LONG)
    assert observations[0] is observations[1]
    assert not observations[0]["images"].flags.writeable


def test_the_metadata_of_the_server_is_known_after_connecting():
    metadata = {"model": "pi05", "reset_pose": np.zeros(7), "supports": ["infer"], "nested": {}}
    with (
        Served(metadata=metadata) as served,
        FlashTransportPolicy("127.0.0.1", served.port) as policy,
    ):
        assert same(policy.get_server_metadata(), metadata)


def test_sixteen_clients_are_served_at_once():
    # no answer before all sixteen have asked
    everybody = threading.Barrier(16)

    def meet(request):
        def answer():
            everybody.wait(LONG)
            echo(request)

        threading.Thread(target=answer).start()

    with Served(meet) as served:

        def client(seed):
            with FlashTransportPolicy("127.0.0.1", served.port, session=f"arm-{seed}") as policy:
                observation = three_cameras(seed)
                answer = policy.infer(observation, timeout=LONG)
                return same(answer["echo"], observation), answer["session"]

        results = in_threads(*(lambda seed=seed: client(seed) for seed in range(16)))
        assert results == [(True, f"arm-{seed}") for seed in range(16)]
        assert served.server.counters["connections_accepted"] == 16


def test_threads_share_a_client_without_mixing_their_answers():
    everybody = threading.Barrier(8)

    def meet(request):
        def answer():
            everybody.wait(LONG)
            echo(request)

        threading.Thread(target=answer).start()

    with Served(meet) as served, FlashTransportPolicy("127.0.0.1", served.port) as policy:

        def ask(number):
            for turn in range(3):
                sent = {"number": number, "turn": turn}
                if policy.infer(sent, timeout=LONG)["echo"] != sent:
                    return False
            return True

        assert in_threads(*(lambda number=number: ask(number) for number in range(8))) == [True] * 8
        assert served.server.counters["connections_accepted"] == 1


def test_the_gil_is_free_while_a_client_and_a_server_wait():
    go = threading.Event()
    asked = threading.Event()

    def wait_for_python(request):
        asked.set()
        assert go.wait(LONG)
        request.respond({})

    with Served(wait_for_python) as served:
        policy = FlashTransportPolicy("127.0.0.1", served.port)
        with thread_results(lambda: policy.infer({}, timeout=LONG)) as results:
            assert asked.wait(LONG)
            # this thread counts while the other waits inside of infer
            assert sum(range(100_000)) == 4999950000
            go.set()
        assert results == [{}]
        policy.close()


def test_ctrl_c_ends_a_wait_and_cancels_the_request():
    requests = []

    def interrupt(request):
        requests.append(request)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    with Served(interrupt) as served, FlashTransportPolicy("127.0.0.1", served.port) as policy:
        with pytest.raises(KeyboardInterrupt):
            policy.infer({}, timeout=LONG)
        eventually(lambda: requests[0].cancelled)


def test_ctrl_c_ends_the_wait_for_a_request():
    with QuicServer("127.0.0.1", 0, metadata={}) as server:
        timer = threading.Timer(
            0.01, lambda: signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        )
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            server.next_request(timeout=LONG)
        timer.join()


def test_a_timeout_cancels_the_request_at_the_server():
    requests = []
    with (
        Served(requests.append) as served,
        FlashTransportPolicy("127.0.0.1", served.port) as policy,
    ):
        with pytest.raises(Timeout, match=rf"no answer from 127.0.0.1:{served.port} within 0.2 s"):
            policy.infer(three_cameras(), timeout=0.2)
        eventually(lambda: requests and requests[0].cancelled)
        requests[0].respond({"late": True})
        assert served.server.counters["requests_cancelled"] == 1


def test_a_timeout_of_zero_is_a_timeout_for_python_too():
    held = []
    with (
        Served(held.append) as served,
        FlashTransportPolicy("127.0.0.1", served.port) as policy,
        pytest.raises(TimeoutError),
    ):
        policy.infer({}, timeout=0)


def test_a_request_that_the_policy_forgets_is_answered_all_the_same():
    with (
        Served(lambda request: None) as served,
        FlashTransportPolicy("127.0.0.1", served.port) as policy,
        pytest.raises(ServerError, match="internal: the server dropped this request"),
    ):
        policy.infer({}, timeout=LONG)


@pytest.mark.parametrize(
    ("code", "exception"),
    [
        ("bad_request", ServerError),
        ("superseded", Superseded),
        ("deadline_exceeded", ServerError),
        ("not_ready", ServerError),
        ("internal", ServerError),
    ],
)
def test_each_error_of_the_policy_reaches_the_caller(code, exception):
    with (
        Served(lambda request: request.fail(code, "because")) as served,
        FlashTransportPolicy("127.0.0.1", served.port) as policy,
    ):
        with pytest.raises(exception, match="because") as raised:
            policy.infer({}, timeout=0.5 if code == "not_ready" else LONG)
        if exception is ServerError:
            assert (raised.value.code, raised.value.message) == (code, "because")


def test_a_request_is_answered_once():
    errors = []

    def answer_again(request):
        with pytest.raises(ValueError, match="is no error code, expected one of: bad_request"):
            request.fail("teapot", "")
        with pytest.raises(CodecError):
            request.respond({"x": object()})
        request.respond({"first": True})
        for again in (lambda: request.respond({}), lambda: request.fail("internal", "")):
            with pytest.raises(FlashTransportError, match="request is answered already") as raised:
                again()
            errors.append(raised.value)

    with Served(answer_again) as served, FlashTransportPolicy("127.0.0.1", served.port) as policy:
        assert policy.infer({}, timeout=LONG) == {"first": True}
    assert len(errors) == 2


def test_a_reset_reaches_the_policy_with_its_session():
    seen = []

    def take(request):
        seen.append((request.kind, request.session, request.observation))
        request.respond({})

    with (
        Served(take) as served,
        FlashTransportPolicy("127.0.0.1", served.port, session="arm-7") as policy,
    ):
        policy.reset()
    assert seen == [("reset", "arm-7", {})]


def test_a_client_without_a_session_gets_one_of_its_own():
    with Served() as served:
        policies = [FlashTransportPolicy("127.0.0.1", served.port) for _ in range(2)]
        sessions = [policy.infer({}, timeout=LONG)["session"] for policy in policies]
        assert sessions[0] == policies[0].infer({}, timeout=LONG)["session"]
        assert sessions[0] != sessions[1]
        for policy in policies:
            policy.close()


def test_a_request_knows_its_peer():
    peers = []

    def take(request):
        peers.append(request.peer)
        request.respond({})

    with Served(take) as served, FlashTransportPolicy("127.0.0.1", served.port) as policy:
        policy.infer({}, timeout=LONG)
        policy.infer({}, timeout=LONG)
    assert peers[0] == peers[1]
    address, number = peers[0].split("#")
    assert address.startswith("127.0.0.1:")
    assert number == "1"


def test_what_cannot_travel_is_refused_before_it_leaves():
    with Served() as served, FlashTransportPolicy("127.0.0.1", served.port) as policy:
        with pytest.raises(CodecError):
            policy.infer({"x": object()}, timeout=LONG)
        assert policy.infer({"x": 1}, timeout=LONG)["echo"] == {"x": 1}
        assert served.server.counters["requests_accepted"] == 1


@pytest.mark.parametrize("timeout", [-1, float("nan")])
def test_a_time_that_is_none_is_refused(timeout):
    with Served() as served, FlashTransportPolicy("127.0.0.1", served.port) as policy:
        with pytest.raises(ValueError, match="timeout must be a number of seconds from 0 up"):
            policy.infer({}, timeout=timeout)
        with pytest.raises(ValueError, match="timeout must be a number of seconds from 0 up"):
            served.server.next_request(timeout=timeout)


def test_a_closed_client_says_so():
    with Served() as served:
        policy = FlashTransportPolicy("127.0.0.1", served.port)
        assert repr(policy) == f"<FlashTransportPolicy 127.0.0.1:{served.port}>"
        policy.close()
        policy.close()
        assert repr(policy) == f"<FlashTransportPolicy 127.0.0.1:{served.port}, closed>"
        with pytest.raises(Disconnected, match="this client of 127.0.0.1:.* is closed"):
            policy.infer({}, timeout=LONG)


def test_closing_a_client_ends_the_waits_of_its_threads():
    asked = threading.Event()
    held = []

    def hold(request):
        held.append(request)
        asked.set()

    with Served(hold) as served:
        policy = FlashTransportPolicy("127.0.0.1", served.port)
        with thread_results(policy.get_server_metadata, lambda: policy.infer({})) as results:
            assert asked.wait(LONG)
            policy.close()
        assert results[0] == {}
        assert isinstance(results[1], Disconnected)
        eventually(lambda: held[0].cancelled)


def test_a_forked_client_says_so_instead_of_waiting_for_ever():
    with Served() as served, FlashTransportPolicy("127.0.0.1", served.port) as policy:
        policy.submit({}).result(LONG)
        with warnings.catch_warnings():
            # Python 3.12 warns of what this test is about
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            try:
                assert ", of another process>" in repr(policy)
                for call in (policy.infer, policy.infer_with_stats, policy.submit):
                    with pytest.raises(RuntimeError, match="was made before a fork"):
                        call({})
                policy.close()
                os._exit(0)
            finally:
                os._exit(1)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert policy.submit({"x": 1}).result(LONG)["echo"] == {"x": 1}
        assert policy.infer({"x": 1}, timeout=LONG)["echo"] == {"x": 1}


def test_an_unclosed_client_and_server_do_not_keep_a_program_from_ending():
    program = """
import threading, time
from flash_transport import FlashTransportPolicy, QuicServer
idle, busy = (QuicServer("127.0.0.1", 0, metadata={}) for _ in range(2))
policy = FlashTransportPolicy("127.0.0.1", busy.port)
threading.Thread(target=idle.next_request, daemon=True).start()
threading.Thread(target=policy.infer, args=({},), daemon=True).start()
future = policy.submit({})
while busy.counters["requests_accepted"] < 2:
    time.sleep(0.001)
print("end")
"""
    run = subprocess.run(
        [sys.executable, "-c", program], timeout=LONG, check=True, capture_output=True, text=True
    )
    assert (run.stdout, run.stderr) == ("end\n", "")


def test_localhost_and_ipv6_are_hosts_too():
    peers = []

    def take(request):
        peers.append(request.peer)
        request.respond({})

    with Served(take, host="::") as served:
        for host in ("127.0.0.1", "::1", "localhost"):
            with FlashTransportPolicy(host, served.port) as policy:
                policy.infer({}, timeout=LONG)
    assert peers[0].startswith("127.0.0.1:")
    assert peers[1].startswith("[::1]:")


def test_a_policy_that_is_dropped_ends_its_futures():
    held = []
    with Served(held.append) as served:
        future = FlashTransportPolicy("127.0.0.1", served.port).submit({})
        with pytest.raises(Disconnected, match="is closed"):
            future.result(LONG)


def test_a_callback_may_close_the_policy():
    with Served() as served:
        policy = FlashTransportPolicy("127.0.0.1", served.port)
        closed = threading.Event()
        future = policy.submit({}, timeout=LONG)
        future.add_done_callback(lambda _: (policy.close(), closed.set()))
        assert closed.wait(LONG)


def test_one_client_may_ask_for_several_sessions_at_once():
    held = []
    with Served(held.append) as served, FlashTransportPolicy("127.0.0.1", served.port) as policy:
        futures = [policy.submit({"session": f"arm-{n}", "n": n}) for n in range(4)]
        eventually(lambda: len(held) == 4)
        for request in reversed(held):
            request.respond({"n": request.observation["n"]})
        assert [future.result(LONG)["n"] for future in futures] == [0, 1, 2, 3]


def test_observations_that_pile_up_without_a_connection_give_way_to_the_newest(tmp_path):
    with ServerProcess(certificate_dir=tmp_path) as server:
        policy = FlashTransportPolicy("127.0.0.1", server.port)
        policy.infer({}, timeout=LONG)
    with pytest.raises(Disconnected):
        policy.infer({}, timeout=0.2)
    futures = [policy.submit({"n": number}, timeout=LONG) for number in range(5)]
    for future in futures[:-1]:
        with pytest.raises(Superseded):
            future.result(LONG)
    with ServerProcess(server.port, tmp_path):
        assert futures[-1].result(LONG) == {"n": 4}
        assert futures[-1].stats.connect_attempts >= 1
    policy.close()


def test_a_client_says_how_its_link_is_set():
    with Served() as served:
        for dedicated in (False, True):
            with FlashTransportPolicy("127.0.0.1", served.port, dedicated_link=dedicated) as policy:
                settings = policy.link_settings
                assert settings["dedicated_link"] == dedicated
                assert settings["receive_buffer_bytes"] > 0
                assert settings["send_buffer_bytes"] > 0
                assert policy.infer({"x": 1}, timeout=LONG)["echo"] == {"x": 1}
