"""Which transport carries requests, in virtual time."""

import random

import pytest

from flash_transport.auto.choice import (
    FIRST_TRIAL_S,
    HEAD_START_S,
    LONGEST_TRIAL_S,
    SETTLED_S,
    SILENT_S,
    Transport,
    TransportChoice,
)

QUIC, WEBSOCKET = Transport.QUIC, Transport.WEBSOCKET


class Network:
    """Drives a choice: UDP works or not, by a schedule; time jumps to the next event.

    Args:
        udp: `udp(now)`: `works`, `silent` or `refused`.
        tcp: whether TCP works.
    """

    SECONDS = 0.02
    """That a handshake takes."""
    ATTEMPT = 3.0
    DIAL = 10.0
    """That an attempt over TCP goes on."""

    def __init__(self, udp, *, tcp=lambda now: True, **options):
        self.choice = TransportChoice(**options)
        self.udp, self.tcp = udp, tcp
        self.now = 0.0
        self.heard = 0.0
        self.is_up = False
        self.quic_due = self.websocket_due = None
        self.is_open = False
        self.carriers = []

    def ask(self):
        if self.choice.carrier is None:
            self.choice.begin(self.now)
            self._note()

    def run(self, until):
        """In steps of the network's own grid, and to each wake-up."""
        while self.now < until:
            wakeup = self.choice.next_wakeup()
            self.now = min(x for x in (self.now + 0.02, until, wakeup) if x and x > self.now)
            self.choice.tick(self.now)
            self._quic()
            self._websocket()
            self._note()

    def _quic(self):
        state = self.udp(self.now)
        if self.is_up:
            if state == "works":
                self.heard = self.now
            if state == "refused":
                self.is_up = False
                self.choice.quic_failed(self.now, "nothing listens there")
            else:
                self.choice.quic_heard(self.now, self.now - self.heard, self.SECONDS)
            return
        if not self.choice.wants_quic:
            self.quic_due = None
            return
        if self.quic_due is None:
            self.quic_due = self.now + (self.ATTEMPT if state == "silent" else self.SECONDS)
        if self.now >= self.quic_due:
            self.quic_due = None
            if state == "works":
                self.is_up, self.heard = True, self.now
                self.choice.quic_is_up(self.now)
            else:
                text = "nothing listens there" if state == "refused" else "the server is silent"
                self.choice.quic_failed(self.now, text)

    def _websocket(self):
        if not self.choice.wants_websocket:
            self.websocket_due, self.is_open = None, False
            return
        if self.is_open:
            if not self.tcp(self.now):
                self.is_open = False
                self.choice.websocket_failed(self.now)
            return
        if self.websocket_due is None:
            self.websocket_due = self.now + 2 * self.SECONDS
        if self.now >= self.websocket_due and self.tcp(self.now):
            self.is_open, self.websocket_due = True, None
            self.choice.websocket_is_up(self.now)
        elif self.now >= self.websocket_due + self.DIAL:
            self.websocket_due = None
            self.choice.websocket_failed(self.now)

    def _note(self):
        if not self.carriers or self.carriers[-1][1] is not self.choice.carrier:
            self.carriers.append((self.now, self.choice.carrier))

    def works(self, transport):
        return self.udp(self.now) == "works" if transport is QUIC else self.tcp(self.now)

    def names(self):
        return [carrier for _, carrier in self.carriers if carrier is not None]

    def first_time(self, carrier):
        return next(at for at, used in self.carriers if used is carrier)


def test_quic_that_answers_is_used_and_websocket_is_never_tried():
    network = Network(lambda now: "works")
    network.ask()
    network.run(100)
    assert network.names() == [QUIC]
    assert not network.choice.wants_websocket
    assert network.choice.quic_trouble == ""
    # only to see whether it falls silent
    assert network.choice.next_wakeup() == pytest.approx(
        network.heard + SILENT_S + 5 * Network.SECONDS
    )


def test_where_udp_is_silent_websocket_is_used_after_the_head_start():
    network = Network(lambda now: "silent")
    network.ask()
    network.run(60)
    assert network.names() == [WEBSOCKET]
    assert HEAD_START_S <= network.first_time(WEBSOCKET) < HEAD_START_S + 0.1
    assert "over QUIC" in network.choice.reason


def test_a_refusal_ends_the_head_start():
    network = Network(lambda now: "refused")
    network.ask()
    network.run(1)
    assert network.first_time(WEBSOCKET) < 0.1
    assert network.choice.reason == "over QUIC nothing listens there"


def test_a_slow_quic_takes_over_as_soon_as_it_is_there():
    network = Network(lambda now: "works")
    network.SECONDS = 0.4
    network.ask()
    network.choice.tick(HEAD_START_S)
    network.choice.websocket_is_up(HEAD_START_S)
    assert network.choice.carrier is WEBSOCKET
    network.run(1)
    assert network.choice.carrier is QUIC
    assert network.choice.reason == "it works again"


def test_without_a_fallback_only_quic_is_tried():
    network = Network(lambda now: "silent" if now < 5 else "works", has_fallback=False)
    network.ask()
    network.run(9.9)
    assert network.names() == [QUIC]


def test_when_udp_works_again_requests_go_back_to_quic_and_websocket_is_closed():
    network = Network(lambda now: "silent" if now < 20 else "works")
    network.ask()
    network.run(200)
    assert network.names() == [WEBSOCKET, QUIC]
    assert network.first_time(QUIC) < 20 + 30 + Network.ATTEMPT
    assert not network.choice.wants_websocket


def test_attempts_over_quic_become_rare_while_udp_is_blocked():
    network = Network(lambda now: "refused")
    network.ask()
    tries, wanted = 0, False
    while network.now < 600:
        network.run(network.now + 0.01)
        tries += network.choice.wants_quic and not wanted
        wanted = network.choice.wants_quic
    assert 15 <= tries <= 30


def test_a_connection_that_falls_silent_is_left_once_websocket_answers():
    network = Network(lambda now: "works" if now < 10 else "silent")
    network.ask()
    network.run(30)
    assert network.names() == [QUIC, WEBSOCKET]
    assert 10 + SILENT_S <= network.first_time(WEBSOCKET) < 10 + SILENT_S + 0.3
    assert "nothing has come from the server" in network.choice.reason


def test_an_outage_of_everything_changes_nothing():
    def is_there(now):
        return not 10 <= now < 14

    network = Network(lambda now: "works" if is_there(now) else "silent", tcp=is_there)
    network.ask()
    network.run(30)
    assert network.names() == [QUIC]
    assert not network.choice.wants_websocket


def test_a_lost_connection_is_replaced_by_what_answers_first():
    network = Network(lambda now: "works" if now < 10 or now > 12 else "refused")
    network.ask()
    network.run(9.9)
    network.choice.begin(network.now)
    network.run(30)
    assert network.names() == [QUIC, WEBSOCKET, QUIC]
    assert network.first_time(WEBSOCKET) < 10.2


def test_a_path_that_flaps_is_trusted_later_each_time():
    network = Network(lambda now: "works" if now % 20 < 8 else "silent")
    network.ask()
    network.run(400)
    changes = len(network.names())
    network.run(800)
    assert 2 <= changes < 20
    # trials are longer than the path lasts: it stays with WebSocket
    assert len(network.names()) <= changes + 1
    assert network.choice.carrier is WEBSOCKET
    assert network.choice.next_wakeup() is not None


def test_a_quic_that_has_settled_is_trusted_again():
    long = LONGEST_TRIAL_S + SETTLED_S + 100

    def udp(now):
        is_gone = any(start <= now < start + 5 for start in (10, 10 + long, 10 + 2 * long))
        return "silent" if is_gone else "works"

    network = Network(udp)
    network.ask()
    network.run(3 * long)
    assert network.names() == [QUIC, WEBSOCKET, QUIC, WEBSOCKET, QUIC, WEBSOCKET, QUIC]
    back = [at for at, used in network.carriers if used is QUIC][1:]
    left = [at for at, used in network.carriers if used is WEBSOCKET]
    for gone, again in zip(left, back, strict=True):
        assert again - gone < 5 + FIRST_TRIAL_S + 30


def test_a_server_that_is_gone_is_tried_only_as_long_as_somebody_waits():
    network = Network(lambda now: "silent", tcp=lambda now: False, patience_s=10)
    network.ask()
    network.run(5)
    network.choice.begin(network.now)
    network.run(60)
    assert network.names() == []
    assert not network.choice.wants_quic
    assert not network.choice.wants_websocket
    assert network.choice.next_wakeup() is None
    network.ask()
    assert network.choice.wants_quic


def test_what_would_fail_again_is_not_tried_before_the_next_request():
    choice = TransportChoice()
    choice.begin(0)
    choice.quic_failed(0.01, "the server refused the api key", None)
    choice.tick(5)
    assert not choice.wants_quic
    assert not choice.wants_websocket
    choice.begin(6)
    assert choice.wants_quic


def test_a_websocket_that_is_lost_gives_way_to_quic():
    choice = TransportChoice()
    choice.begin(0)
    choice.quic_failed(0, "nothing listens there")
    choice.websocket_is_up(0.1)
    assert choice.carrier is WEBSOCKET
    # long after the last request had to wait for a connection
    choice.websocket_failed(500)
    assert choice.carrier is None
    assert choice.wants_quic
    assert choice.wants_websocket
    choice.quic_is_up(500.1)
    assert choice.carrier is QUIC


def test_a_websocket_that_comes_and_goes_has_quic_tried_once_for_each_time():
    network = Network(lambda now: "silent", tcp=lambda now: now % 10 < 9)
    network.ask()
    tries, wanted = 0, False
    while network.now < 600:
        network.run(network.now + 0.01)
        network.ask()
        tries += network.choice.wants_quic and not wanted
        wanted = network.choice.wants_quic
    # beside the pauses of 1, 2 and 4 s that begin anew
    assert 60 <= tries <= 4 * 60


@pytest.mark.parametrize("seed", range(16))
def test_whatever_the_network_does_requests_have_a_carrier_that_works_where_one_does(seed):
    chance = random.Random(seed)
    spans = []
    while sum(length for length, *_ in spans) < 120:
        spans.append(
            (
                chance.choice([0.3, 2.0, 9.0, 40.0]),
                chance.choice(["works", "silent", "refused"]),
                chance.random() < 0.8,
            )
        )

    def at(now):
        for length, udp, tcp in spans:
            if now < length:
                return udp, tcp
            now -= length
        return udp, tcp

    network = Network(lambda now: at(now)[0], tcp=lambda now: at(now)[1])
    works_since, is_stuck_since = {}, None
    while network.now < 120:
        network.ask()
        network.run(network.now + 0.1)
        for transport in Transport:
            if not network.works(transport):
                works_since.pop(transport, None)
            elif transport not in works_since:
                works_since[transport] = network.now
        carrier = network.choice.carrier
        if carrier in works_since:
            is_stuck_since = None
        elif is_stuck_since is None:
            is_stuck_since = network.now
        else:
            for since in works_since.values():
                assert network.now - max(since, is_stuck_since) <= 2 * Network.ATTEMPT, carrier
