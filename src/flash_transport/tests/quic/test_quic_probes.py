"""Datagrams behind messages: for peers that take them, after a loss, and without a meaning."""

import random

import pytest
from aioquic.quic.events import DatagramFrameReceived
from quic_peers import Served
from quic_stranger import HELLO, Stranger, speak

LARGEST = 1100
"""Bytes of a datagram that fit into any packet."""


class LossyStranger(Stranger):
    """Does not get some of what it is sent."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.probes = []
        self.to_lose = 0

    def datagram_received(self, data, addr):
        if self.to_lose:
            self.to_lose -= 1
        else:
            super().datagram_received(data, addr)

    def quic_event_received(self, event):
        if isinstance(event, DatagramFrameReceived):
            self.probes.append(event.data)
        super().quic_event_received(event)


async def ask_over_loss(client, requests):
    """Each request loses what the server sends first, which is its answer or part of it."""
    assert (await client.ask(HELLO))[0] == 0x00
    answers = []
    for _ in range(requests):
        client.to_lose = 1
        answers.append(await client.ask(b"\x02\x80"))
    return answers


def test_a_stranger_that_takes_datagrams_gets_probes_of_one_byte_after_a_loss():
    async def ask(client):
        await ask_over_loss(client, 20)
        return client.probes

    with Served() as served:
        probes = speak(served.port, ask, protocol=LossyStranger, max_datagram_frame_size=LARGEST)
    assert set(probes) == {b"\x00"}


@pytest.mark.parametrize("announced", [None, 0])
def test_a_stranger_without_datagrams_gets_its_answers_over_loss_and_no_probe(announced):
    async def ask(client):
        # aioquic would end the connection on a datagram that it does not expect.
        return await ask_over_loss(client, 20), client.probes

    with Served(lambda request: request.respond({})) as served:
        answers, probes = speak(
            served.port, ask, protocol=LossyStranger, max_datagram_frame_size=announced
        )
    assert answers == [b"\x00\x80"] * 20
    assert probes == []


def test_garbage_in_datagrams_costs_nothing():
    chance = random.Random(0)

    async def ask(client):
        await client.ask(HELLO)
        for _ in range(500):
            size = chance.choice([0, 1, 2, 100, LARGEST])
            client._quic.send_datagram_frame(chance.randbytes(size))
            client.transmit()
        return await client.ask(b"\x02\x80")

    with Served(lambda request: request.respond({})) as served:
        answer = speak(served.port, ask, max_datagram_frame_size=LARGEST)
        assert served.server.counters["requests_refused"] == 0
    assert answer == b"\x00\x80"
