"""Client and server of QUIC over real sockets: what is asked and what comes back."""

import numpy as np
from quic_peers import LONG, Served, echo_together, eventually, in_threads, same, three_cameras

from flash_transport import FlashTransportPolicy


def test_an_observation_comes_back_bit_for_bit():
    with Served() as served, FlashTransportPolicy("127.0.0.1", served.port) as policy:
        observation = three_cameras()
        answer = policy.infer(observation, timeout=LONG)
        assert same(answer["echo"], observation)


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


def test_one_client_may_ask_for_several_sessions_at_once():
    held = []
    with Served(held.append) as served, FlashTransportPolicy("127.0.0.1", served.port) as policy:
        futures = [policy.submit({"session": f"arm-{n}", "n": n}) for n in range(4)]
        eventually(lambda: len(held) == 4)
        for request in reversed(held):
            request.respond({"n": request.observation["n"]})
        assert [future.result(LONG)["n"] for future in futures] == [0, 1, 2, 3]


def test_sixteen_clients_are_served_at_once():
    with Served(echo_together(16)) as served:

        def client(seed):
            with FlashTransportPolicy("127.0.0.1", served.port, session=f"arm-{seed}") as policy:
                observation = three_cameras(seed)
                answer = policy.infer(observation, timeout=LONG)
                return same(answer["echo"], observation), answer["session"]

        results = in_threads(*(lambda seed=seed: client(seed) for seed in range(16)))
        assert results == [(True, f"arm-{seed}") for seed in range(16)]
        assert served.server.counters["connections_accepted"] == 16


def test_threads_share_a_client_without_mixing_their_answers():
    with (
        Served(echo_together(8)) as served,
        FlashTransportPolicy("127.0.0.1", served.port) as policy,
    ):

        def ask(number):
            for turn in range(3):
                sent = {"number": number, "turn": turn}
                if policy.infer(sent, timeout=LONG)["echo"] != sent:
                    return False
            return True

        assert in_threads(*(lambda number=number: ask(number) for number in range(8))) == [True] * 8
        assert served.server.counters["connections_accepted"] == 1


def test_a_client_says_how_its_link_is_set():
    with Served() as served:
        for dedicated in (False, True):
            with FlashTransportPolicy("127.0.0.1", served.port, dedicated_link=dedicated) as policy:
                settings = policy.link_settings
                assert settings["dedicated_link"] == dedicated
                assert settings["receive_buffer_bytes"] > 0
                assert settings["send_buffer_bytes"] > 0
                assert policy.infer({"x": 1}, timeout=LONG)["echo"] == {"x": 1}
