"""playback.py: which action is due, and when the next chunk is asked for, in virtual time."""

import sys

import numpy as np
import pytest

from openpi_flash_robot.broker.playback import ChunkPlayback, agree_alone, player_of
from openpi_flash_robot.hold import Hold, HoldKind
from openpi_flash_robot.settings.server_contract import ContractError, parse_contract

MS = 1_000_000
PERIOD = 20 * MS
METADATA = {"action_horizon": 50, "action_dim": 2, "action_rate_hz": 25.0, "supports": []}
LIMITS = {"max_velocity": [0.5], "max_acceleration": [5.0]}


def agreed(kind="position", **changes):
    return agree_alone(
        parse_contract(METADATA | changes), action_kind=kind, action_rate_hz=0.0, column_count=None
    )


class Loop:
    """A program that asks for an action every 20 ms, and a server that answers after a while."""

    def __init__(self, *, is_measured=False, latency_ms=100, agreement=None, **changes):
        agreement = agreement or agreed()
        player = player_of(LIMITS | changes, ("a", "b"), is_measured=is_measured)
        self.playback = ChunkPlayback(agreement, player, 10)
        self.now, self.latency_ms = 1_000 * MS, latency_ms
        self.measured = np.array([0.0, 1.0]) if is_measured else None
        self.way = 0.4
        self.answers = True
        self.waiting, self.asked, self.due = [], [], []

    def turn(self):
        self.now += PERIOD
        for due, number, begin in list(self.waiting):
            if self.answers and due <= self.now:
                self.waiting.remove((due, number, begin))
                steps = begin + self.way * np.arange(50)[:, np.newaxis] / 25.0
                self.playback.answer(self.now, number, {"actions": steps}, self.measured)
        if self.playback.is_due(self.now):
            number, more = self.playback.ask(self.now)
            self.asked.append((self.now, more))
            begin = self.due[-1].actions if self.due else np.array([0.0, 1.0])
            self.waiting.append((self.now + self.latency_ms * MS, number, begin))
        due = self.playback.due(self.now)
        if due is not None:
            self.due.append(due)
            if self.measured is not None:
                self.measured = due.actions

    def go(self, milliseconds):
        for _ in range(milliseconds * MS // PERIOD):
            self.turn()

    @property
    def speeds(self):
        return np.diff([due.actions for due in self.due], axis=0) / 0.02


@pytest.mark.parametrize("method", ["latest", "temporal_ensemble", "rtc"])
def test_actions_go_on_from_chunk_to_chunk_within_the_limits_and_without_a_stop(method):
    loop = Loop(chunk_method=method)
    loop.go(4000)
    assert len(loop.asked) > 5
    assert all(due.hold is None for due in loop.due)
    assert np.abs(loop.speeds).max() <= 0.5 + 1e-6
    assert np.abs(np.diff(loop.speeds, axis=0)).max() / 0.02 <= 5.0 + 1e-3
    assert loop.speeds[25:].min() > 0.2


def test_the_next_chunk_is_asked_for_while_the_last_one_is_played():
    loop = Loop()
    loop.go(2000)
    pauses = np.diff([at for at, _ in loop.asked][1:]) / 1e9
    assert np.all(pauses <= 10 / 25.0 + 0.06)


def test_nothing_is_due_before_the_first_chunk():
    loop = Loop()
    loop.answers = False
    loop.go(500)
    assert loop.due == []
    assert len(loop.asked) == 1


def test_the_first_action_is_where_the_robot_is_or_else_where_the_chunk_begins():
    for is_measured in (False, True):
        loop = Loop(is_measured=is_measured)
        loop.go(400)
        assert loop.due[0].actions == pytest.approx([0.0, 1.0])


def test_a_chunk_that_begins_far_from_where_the_robot_is_is_refused():
    loop = Loop(is_measured=True, max_start_delta=[0.2])
    loop.measured = np.array([0.5, 1.0])
    loop.go(400)
    assert loop.due == []


def test_without_a_newer_chunk_it_brakes_and_stands():
    loop = Loop()
    loop.go(1000)
    loop.answers = False
    loop.go(2000)
    assert loop.due[-1].hold.kind is HoldKind.EXHAUSTED
    assert np.all(loop.speeds[-20:] == 0.0)
    assert np.abs(np.diff(loop.speeds, axis=0)).max() / 0.02 <= 5.0 + 1e-3


def test_a_program_that_was_stopped_goes_on_without_a_jump():
    loop = Loop()
    loop.go(1000)
    begin = len(loop.due)
    loop.now += 400 * MS
    loop.go(1500)
    steps = np.diff([due.actions for due in loop.due[begin - 1 :]], axis=0)
    assert np.abs(steps).max() <= 0.5 * 0.02 + 1e-6
    assert np.abs(np.diff(steps, axis=0)).max() <= 5.0 * 0.02**2 * 1.001 + 1e-6
    assert loop.due[-1].hold is None


@pytest.mark.parametrize("period_ms", [5, 40, 200])
def test_a_loop_of_any_pace_is_given_the_motion_as_it_is(period_ms, monkeypatch):
    loop = Loop()
    monkeypatch.setattr(sys.modules[__name__], "PERIOD", period_ms * MS)
    loop.go(2000)
    for _ in range(20):
        loop.turn()
        wanted = loop.playback._player.motion.sample(loop.now).positions
        assert loop.due[-1].actions == pytest.approx(wanted, abs=1e-9)
    assert loop.due[-1].actions[0] > 0.1


def test_a_failure_brakes_and_the_next_answer_goes_on_from_there():
    loop = Loop(latency_ms=40)
    loop.go(1000)
    while not loop.waiting:
        loop.turn()
    (_, number, _) = loop.waiting.pop()
    loop.playback.fail(loop.now, number, Hold(HoldKind.REFUSED, "out of memory"))
    begin = len(loop.due)
    loop.go(2000)
    reasons = [due.hold.message for due in loop.due[begin:] if due.hold]
    assert set(reasons) == {"out of memory"}
    assert loop.due[-1].hold is None
    assert np.abs(np.diff(loop.speeds, axis=0)).max() / 0.02 <= 5.0 + 1e-3


def test_a_lost_link_brakes_and_forgets_the_request_in_flight():
    loop = Loop()
    loop.go(1000)
    loop.waiting.clear()
    loop.playback.lose(loop.now, Hold(HoldKind.LINK, "gone"))
    loop.turn()
    assert loop.due[-1].hold.message == "gone"
    assert loop.playback.is_due(loop.now) or loop.waiting


def test_an_answer_without_a_chunk_holds():
    playback = ChunkPlayback(agreed(), player_of(LIMITS, ("a", "b"), is_measured=False), 10)
    number, _ = playback.ask(MS)
    hold = playback.answer(2 * MS, number, {"subtask": {}}, None)
    assert hold.kind is HoldKind.BAD_CHUNK
    assert playback.answer(2 * MS, 99, {}, None) is None  # nobody waits for it


def test_after_a_reset_nothing_is_due_until_a_chunk_of_after_it():
    loop = Loop()
    loop.go(1000)
    loop.playback.reset(loop.now)
    assert loop.playback.due(loop.now) is None
    loop.due.clear()
    loop.go(1000)
    assert loop.due[-1].hold is None


def test_a_server_that_continues_chunks_is_told_of_the_running_one():
    loop = Loop(agreement=agreed(supports=["rtc"]), chunk_method="rtc")
    loop.go(1500)
    first, *later = [more for _, more in loop.asked]
    assert first == {}
    assert later[-1]["rtc"]["previous_actions"].shape[1] == 2


def action(**changes):
    return {"name": "x", "interface": "position", "unit": "rad", "reference": "absolute"} | changes


def test_a_gripper_is_known_by_the_servers_word():
    agreement = agreed("", actions=[action(), action(interface="gripper", unit="1")])
    assert [axis.is_gripper for axis in agreement.axes] == [False, True]


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"action_rate_hz": None}, "position", "pass action_rate_hz"),
        ({"action_dim": None}, "position", "pass action_dim"),
        ({}, "", "set the parameter action_kind to position"),
        ({"actions": [action()]}, "", "describes 1 actions, and has 2"),
        ({"actions": [action(), action(reference="observed_state")]}, "", "no absolute position"),
        (
            {"actions": [action(interface="velocity", unit="rad/s")] * 2},
            "",
            "not of kind position",
        ),
        ({"actions": [action(interface="velocity", unit="rad/s")] * 2}, "velocity", "no absolute"),
    ],
)
def test_chunks_that_are_not_known_to_be_positions_are_refused(changes, kind, message):
    with pytest.raises(ContractError, match=message):
        agreed(kind, **changes)
