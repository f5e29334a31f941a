"""The settings of the link, as Python sees them."""

import numpy as np
import pytest
from quic_peers import LONG, Served

from flash_transport import FlashTransportPolicy


@pytest.mark.parametrize("dedicated_link", [False, True])
def test_a_server_says_how_its_link_is_set_and_serves(dedicated_link):
    image = np.arange(3 * 224 * 224, dtype=np.uint8).reshape(224, 224, 3)
    with Served(dedicated_link=dedicated_link) as served:
        settings = served.server.link_settings
        assert settings["dedicated_link"] is dedicated_link
        assert settings["receive_buffer_bytes"] > 0
        assert settings["send_buffer_bytes"] > 0
        with FlashTransportPolicy("127.0.0.1", served.port) as policy:
            answer = policy.infer({"image": image}, timeout=LONG)
    assert np.array_equal(answer["echo"]["image"], image)


def test_a_server_says_which_clients_it_has_and_how_their_links_do():
    with Served() as served:
        with FlashTransportPolicy("127.0.0.1", served.port, session="arm-7") as policy:
            policy.infer({"state": np.zeros(7)}, timeout=LONG)
            ((client, session, software),) = served.server.clients()
            link = served.server.links[client]
        assert client.startswith("127.0.0.1:")
        assert (session, software.split()[0]) == ("arm-7", "flash_transport")
        assert 0 < link["rtt_ms"] < LONG * 1000
        assert link["packets_sent"] > 0
        assert 0 <= link["packets_lost"] <= link["packets_sent"]
        assert min(link["bytes_sent"], link["bytes_received"]) > 1000
        assert ends(served.server)
    assert served.server.clients() == []


def ends(server):
    """Whether the server learns that its client has left."""
    while events := server.next_client_events(LONG):
        if events[-1][0] == "disconnected":
            return True
    return False


def test_a_request_and_its_answer_say_how_large_they_are():
    sizes = []

    def answer(request):
        sizes.append((request.size, request.respond({"actions": request.observation["state"]})))

    with (
        Served(answer) as served,
        FlashTransportPolicy("127.0.0.1", served.port) as policy,
    ):
        for numbers in (10, 1010):
            policy.infer({"state": np.zeros(numbers)}, timeout=LONG)
    (small, small_answer), (large, large_answer) = sizes
    assert large - small == pytest.approx(8000, abs=4)
    assert large_answer - small_answer == pytest.approx(8000, abs=4)
