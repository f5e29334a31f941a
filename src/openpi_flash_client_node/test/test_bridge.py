"""bridge.py: from frames to effects, against a virtual clock and a made-up link."""

import dataclasses
import math

import numpy as np
import pytest

from openpi_flash_client_node.bridge import RECHECK_NS, Bridge
from openpi_flash_client_node.effects import (
    PublishChunk,
    PublishStats,
    PublishSubtask,
    PublishTrajectory,
    Reconnect,
    ResetPolicy,
    SendRequest,
    Warn,
)
from openpi_flash_client_node.link_events import (
    FailureKind,
    LinkDown,
    LinkUp,
    RequestCost,
    RequestDone,
    RequestFailed,
)
from openpi_flash_client_node.status import State

MS = 1_000_000
JOINTS = ("shoulder", "elbow", "gripper")
PERIOD = 20 * MS
METADATA = {
    "action_horizon": 50,
    "action_dim": 3,
    "action_rate_hz": 25.0,
    "action_names": list(JOINTS),
    "supports": [],
}
MEASURED = [0.1, 0.2, 0.5]
COST = RequestCost(serialize_s=0.002, bytes_up=452_000, bytes_down=7_000)


class World:
    """A robot and a link around a bridge, with a clock that only tests move."""

    def __init__(self, settings):
        self.bridge = Bridge(settings)
        self.now = 1_000 * MS
        self.effects = []
        self.measured = list(MEASURED)
        self.silent = set()

    def pass_time(self, milliseconds, *, until=None):
        """Let periods go by, with cameras and joints speaking, until an effect of a kind comes."""
        for _ in range(milliseconds * MS // PERIOD):
            self.now += PERIOD
            for camera in ("scene", "wrist"):
                if camera not in self.silent:
                    self.bridge.add_frame(camera, self.now - 5 * MS, f"{camera}@{self.now}")
            if "joints" not in self.silent:
                self.bridge.add_joints(self.now - MS, JOINTS, self.measured)
            self.bridge.tick(self.now)
            found = self.collect(until) if until else self.collect()
            if until and found:
                return found[0]
        return None

    def collect(self, kind=object):
        new = self.bridge.take_effects()
        self.effects += new
        return [effect for effect in new if isinstance(effect, kind)]

    def event(self, event):
        self.bridge.link_event(self.now, event)
        return self.collect()

    def up(self, **changes):
        return self.event(LinkUp(METADATA | changes))

    def answer(self, request, actions=None, *, latency_ms=40, **more):
        """Let the latency pass and deliver the answer; everything that happened meanwhile."""
        before = len(self.effects)
        self.pass_time(latency_ms)
        result = {"actions": still() if actions is None else actions} | more
        self.event(RequestDone(request.request_id, result, 0.003, latency_ms / 1e3, COST))
        return self.effects[before:]

    def run(self):
        """Bring it to play its first chunk."""
        self.bridge.activate(self.now)
        self.up()
        request = self.pass_time(100, until=SendRequest)
        self.answer(request)
        assert self.status.state is State.RUNNING
        return request

    @property
    def status(self):
        return self.bridge.status(self.now)

    def all(self, kind):
        return [effect for effect in self.effects if isinstance(effect, kind)]


def still(steps=50):
    """A chunk that stays where the robot is."""
    return np.tile(np.asarray(MEASURED), (steps, 1))


@pytest.fixture
def world(settings):
    return World(settings)


def of(effects, kind):
    return [effect for effect in effects if isinstance(effect, kind)]


def test_it_asks_nothing_before_it_is_connected_and_active(world):
    assert world.status.state is State.CONNECTING
    assert world.status.message == "connecting to 127.0.0.1:5555"
    world.up()
    assert world.pass_time(200, until=SendRequest) is None
    assert (world.status.state, world.status.message) == (State.PAUSED, "not active")
    world.bridge.activate(world.now)
    assert world.pass_time(40, until=SendRequest) is not None
    assert world.status.state is State.HOLDING
    assert world.status.message == "waiting for the first chunk"


def test_an_answer_becomes_a_chunk_and_one_trajectory_per_controller(world):
    world.bridge.activate(world.now)
    world.up()
    request = world.pass_time(100, until=SendRequest)
    assert request.observation.prompt == "stack the cubes"
    assert request.timeout == 1.0
    effects = world.answer(request)
    (chunk,) = of(effects, PublishChunk)
    assert chunk.sequence == 1
    assert chunk.start_ns == world.now + 40 * MS
    assert chunk.observation_ns == request.observation.oldest_ns
    assert chunk.first_step == 0
    np.testing.assert_array_equal(chunk.actions, still())
    arm, hand = of(effects, PublishTrajectory)
    assert (arm.controller.name, hand.controller.name) == ("arm", "hand")
    np.testing.assert_allclose(arm.trajectory.positions[0], MEASURED[:2])
    np.testing.assert_allclose(hand.trajectory.positions[0], MEASURED[2:])
    status = world.status
    assert (status.state, status.sequence, status.message) == (State.RUNNING, 1, "")
    assert status.chunk_age == pytest.approx((world.now - chunk.observation_ns) / 1e9)
    assert 0 < status.steps_buffered <= 50


def test_the_next_observation_is_taken_when_the_execution_horizon_is_played(world):
    request = world.run()
    following = world.pass_time(2_000, until=SendRequest)
    due = request.observation.oldest_ns + 10 * 40 * MS
    assert due <= world.now < due + PERIOD
    effects = world.answer(following)
    (chunk,) = of(effects, PublishChunk)
    assert chunk.sequence == 2
    assert chunk.start_ns == following.observation.oldest_ns
    assert chunk.first_step >= 1


def test_only_one_request_is_in_flight_however_late_its_answer(world):
    world.run()
    world.pass_time(5_000)
    assert len(world.all(SendRequest)) == 2


def test_the_same_frames_are_not_sent_twice(world):
    world.run()
    request = world.pass_time(2_000, until=SendRequest)
    world.event(RequestFailed(request.request_id, FailureKind.SUPERSEDED, "newer wins"))
    world.bridge.tick(world.now)
    assert world.collect(SendRequest) == []
    assert world.pass_time(20, until=SendRequest) is not None


def test_a_dry_run_shows_chunks_but_commands_nothing(settings, replace):
    world = World(replace(settings, dry_run=True))
    world.run()
    world.bridge.hold(world.now)
    world.collect()
    assert len(world.all(PublishChunk)) == 1
    assert world.all(PublishTrajectory) == []


# --- holding ---


def holds(effects):
    """Every hold command: one point at rest for each controller."""
    trajectories = of(effects, PublishTrajectory)
    for effect in trajectories:
        assert effect.trajectory.positions.shape[0] == 1
        assert effect.trajectory.times_ns.tolist() == [200 * MS]
        assert not effect.trajectory.velocities.any()
    return trajectories


CAUSES = {
    "a lost link": (
        lambda w: w.event(LinkDown("connection lost")),
        State.DISCONNECTED,
        "connection lost",
    ),
    "a timeout": (
        lambda w: w.event(RequestFailed(w.in_flight, FailureKind.TIMEOUT, "no answer within 1 s")),
        State.HOLDING,
        "no answer within 1 s",
    ),
    "a refusal": (
        lambda w: w.event(
            RequestFailed(w.in_flight, FailureKind.SERVER, "bad_request: state is missing")
        ),
        State.HOLDING,
        "bad_request: state is missing",
    ),
    "an image that cannot be decoded": (
        lambda w: w.event(RequestFailed(w.in_flight, FailureKind.PREPARE, "camera scene: 16UC1")),
        State.HOLDING,
        "camera scene: 16UC1",
    ),
    "a chunk of the wrong shape": (
        lambda w: w.event(RequestDone(w.in_flight, {"actions": np.zeros((50, 4))}, 0.0, 0.1, COST)),
        State.HOLDING,
        "the actions have shape [50, 4], expected [50, 3]",
    ),
    "a chunk with NaN": (
        lambda w: w.event(
            RequestDone(w.in_flight, {"actions": still() * math.nan}, 0.0, 0.1, COST)
        ),
        State.HOLDING,
        "chunk 2 is not finite: step 0 of shoulder is nan",
    ),
    "no actions": (
        lambda w: w.event(RequestDone(w.in_flight, {"subtask": {}}, 0.0, 0.1, COST)),
        State.HOLDING,
        "the answer has no actions, only subtask",
    ),
    "pause": (
        lambda w: (w.bridge.pause(w.now, True), w.collect())[1],
        State.PAUSED,
        "paused by ~/pause",
    ),
    "hold": (
        lambda w: (w.bridge.hold(w.now), w.collect())[1],
        State.HOLDING,
        "held by ~/hold; ~/reset goes on",
    ),
    "reset": (
        lambda w: (w.bridge.reset(w.now), w.collect())[1],
        State.HOLDING,
        "reset; waiting for the first chunk",
    ),
    "deactivation": (
        lambda w: (w.bridge.deactivate(w.now), w.collect())[1],
        State.PAUSED,
        "not active",
    ),
}


@pytest.mark.parametrize("cause", CAUSES)
def test_whatever_stops_the_robot_sends_one_hold_command_to_each_controller(world, cause):
    stop, state, message = CAUSES[cause]
    world.run()
    world.in_flight = world.pass_time(2_000, until=SendRequest).request_id
    world.measured = [0.11, 0.21, 0.51]
    world.pass_time(20)
    arm, hand = holds(stop(world))
    np.testing.assert_allclose(arm.trajectory.positions[0], [0.11, 0.21])
    np.testing.assert_allclose(hand.trajectory.positions[0], [0.51])
    assert (world.status.state, world.status.message) == (state, message)
    before = len(world.all(PublishTrajectory))
    world.bridge.tick(world.now)
    world.collect()
    assert len(world.all(PublishTrajectory)) == before


def test_a_late_answer_holds_within_one_period_of_the_deadline(world):
    request = world.run()
    deadline = request.observation.oldest_ns + 1_000 * MS  # half of 50 steps of 40 ms
    stopped = None
    while stopped is None:
        world.pass_time(20)
        if world.status.state is State.HOLDING:
            stopped = world.now
    assert deadline - 40 * MS < stopped <= deadline + PERIOD
    assert len(holds(world.effects[-2:])) == 2
    assert world.status.message.startswith("no newer chunk: the observation of chunk 1 is")


def test_at_the_end_of_a_plan_it_stays_where_the_plan_has_led_it(world):
    world.run()
    actions = still() + np.linspace(0, 0.4, 50)[:, np.newaxis] * [1, 0, 0]
    world.answer(world.pass_time(2_000, until=SendRequest), actions)
    world.effects.clear()
    world.pass_time(3_000)
    arm, _ = holds(world.effects)
    assert arm.trajectory.positions[0, 0] > MEASURED[0] + 0.15


@pytest.mark.parametrize("cause", [c for c in CAUSES if c not in ("pause", "hold", "deactivation")])
def test_when_the_cause_is_gone_it_goes_on_by_itself(world, cause):
    world.run()
    world.in_flight = world.pass_time(2_000, until=SendRequest).request_id
    CAUSES[cause][0](world)
    if cause == "a lost link":
        world.pass_time(500)
        assert world.status.state is State.DISCONNECTED
        world.up()
        assert world.status.message == "waiting for the first chunk"
    if cause == "reset":
        world.event(RequestDone(world.in_flight, {"actions": still()}, 0.0, 0.1, COST))
        assert world.status.state is State.HOLDING
    request = world.pass_time(400, until=SendRequest)
    effects = world.answer(request)
    assert world.status.state is State.RUNNING
    (chunk,) = of(effects, PublishChunk)
    assert chunk.sequence == 2
    assert chunk.first_step == 0


def test_a_pause_lasts_until_it_is_ended(world):
    world.run()
    world.bridge.pause(world.now, True)
    world.bridge.reset(world.now)
    world.collect()
    assert world.pass_time(3_000, until=SendRequest) is None
    world.bridge.pause(world.now, False)
    assert world.pass_time(100, until=SendRequest) is not None


def test_a_hold_lasts_until_a_reset_and_nothing_else_ends_it(world):
    world.run()
    world.bridge.hold(world.now)
    world.bridge.pause(world.now, True)
    world.bridge.pause(world.now, False)
    world.bridge.set_prompt(world.now, "go on", reset=True)
    world.collect()
    assert world.pass_time(3_000, until=SendRequest) is None
    assert world.status.message == "held by ~/hold; ~/reset goes on"
    world.bridge.reset(world.now)
    assert world.pass_time(100, until=SendRequest) is not None


def test_going_on_while_nothing_is_paused_does_not_stop_the_robot(world):
    world.run()
    world.bridge.pause(world.now, False)
    assert world.status.state is State.RUNNING


def test_an_answer_that_comes_after_pause_goes_by(world):
    world.run()
    request = world.pass_time(2_000, until=SendRequest)
    world.bridge.pause(world.now, True)
    world.bridge.pause(world.now, False)
    effects = world.answer(request)
    assert of(effects, PublishChunk) == []


def test_where_the_joints_are_silent_too_it_holds_where_it_was_commanded(world):
    world.run()
    actions = still() + np.linspace(0, 0.4, 50)[:, np.newaxis] * [1, 0, 0]
    world.answer(world.pass_time(2_000, until=SendRequest), actions)
    world.silent = {"joints"}
    world.pass_time(400)
    arm, _ = holds(world.event(LinkDown("gone")))
    assert arm.trajectory.positions[0, 0] > 0.15


def test_nothing_is_commanded_by_a_hold_before_anything_was_commanded(world):
    world.bridge.activate(world.now)
    world.up()
    world.bridge.hold(world.now)
    assert world.collect(PublishTrajectory) == []


def test_a_clock_that_is_set_back_is_a_hold_and_then_it_goes_on_in_the_new_time(world):
    world.run()
    world.now = 0
    world.pass_time(20)
    assert world.status.message.startswith("the clock was set back by 1.0")
    assert len(holds(world.all(PublishTrajectory)[-2:])) == 2
    world.answer(world.all(SendRequest)[-1])
    assert world.status.state is State.RUNNING


def test_where_a_clock_set_back_hides_the_joints_it_holds_where_it_was_commanded_last(world):
    world.run()
    actions = still() + np.linspace(0, 0.4, 50)[:, np.newaxis] * [1, 0, 0]
    world.answer(world.pass_time(2_000, until=SendRequest), actions)
    world.pass_time(300)
    before = world.bridge._player.plan.sample(world.now)
    world.silent = {"joints"}
    world.now -= 500 * MS
    world.bridge.tick(world.now)
    arm, _ = holds(world.collect())
    np.testing.assert_allclose(arm.trajectory.positions[0], before[:2])


# --- what is missing is named ---


def test_a_silent_camera_is_named_while_it_holds(world):
    world.bridge.activate(world.now)
    world.up()
    world.silent = {"wrist"}
    assert world.pass_time(500, until=SendRequest) is None
    assert world.status.state is State.HOLDING
    assert world.status.message == "camera wrist (/wrist/image_raw) has never spoken"
    world.silent = set()
    assert world.pass_time(100, until=SendRequest) is not None


def test_a_camera_that_falls_silent_is_named_at_once_and_stops_the_robot_in_the_end(world):
    world.run()
    world.silent = {"scene"}
    world.pass_time(500)
    assert world.status.state is State.RUNNING
    assert world.status.message.startswith(
        "playing what is left: camera scene (/scene/image_raw) is stale"
    )
    world.pass_time(1_000)
    assert world.status.state is State.HOLDING
    assert world.status.message.startswith("camera scene (/scene/image_raw) is stale")
    assert len(holds(world.all(PublishTrajectory)[-2:])) == 2


def test_a_running_number_in_a_message_is_no_news_but_another_cause_is(world):
    world.run()
    running = world.status
    assert running.is_news_after(None)
    world.silent = {"scene"}
    world.pass_time(500)
    first = world.status
    assert first.is_news_after(running)
    world.pass_time(40)
    assert world.status.message != first.message
    assert not world.status.is_news_after(first)


# --- the server ---


def test_a_server_for_another_robot_is_a_fault_until_another_one_answers(world):
    world.bridge.activate(world.now)
    world.up(action_names=["x", "y", "z"])
    assert world.pass_time(500, until=SendRequest) is None
    assert world.status.state is State.FAULT
    assert "the server's actions are x, y, z" in world.status.message
    world.event(LinkDown("restarted"))
    world.up()
    assert world.pass_time(100, until=SendRequest) is not None


def test_a_server_that_does_not_fit_is_asked_again_and_again_who_it_is(world):
    world.bridge.activate(world.now)
    for _ in range(2):
        world.up(action_names=["x", "y", "z"])
        before = world.now
        assert world.pass_time(5_000, until=Reconnect) is not None
        assert before + RECHECK_NS <= world.now < before + RECHECK_NS + PERIOD
        assert world.pass_time(5_000, until=Reconnect) is None
    world.up()
    assert world.pass_time(5_000, until=Reconnect) is None


def test_a_server_that_turns_into_another_one_in_the_middle_stops_the_robot(world):
    world.run()
    request = world.pass_time(2_000, until=SendRequest)
    assert len(holds(world.up(action_names=["x", "y", "z"]))) == 2
    assert world.status.state is State.FAULT
    assert of(world.answer(request), PublishChunk) == []
    world.up()
    assert world.pass_time(100, until=SendRequest) is not None


def test_a_wrong_key_is_a_fault(world):
    world.event(LinkDown("the server refused the api key", needs_human=True))
    assert (world.status.state, world.status.message) == (
        State.FAULT,
        "the server refused the api key",
    )
    world.up()
    assert world.status.state is State.PAUSED


def test_warnings_of_the_agreement_are_passed_on(world):
    effects = world.up(
        image_specs=[{"path": ["observation/scene_image"], "target_shape": [224, 224, 3]}]
    )
    assert [effect.message for effect in of(effects, Warn)] == [
        "camera wrist goes to observation/wrist_image, where the server reads no image"
    ]


def test_a_request_that_was_lost_with_the_link_leaves_the_reason_to_the_link(world):
    world.run()
    request = world.pass_time(2_000, until=SendRequest)
    assert world.event(RequestFailed(request.request_id, FailureKind.LINK, "lost")) == []
    assert world.status.state is State.RUNNING
    assert len(holds(world.event(LinkDown("lost")))) == 2


def test_a_superseded_request_is_simply_asked_again(world):
    world.run()
    request = world.pass_time(2_000, until=SendRequest)
    world.event(RequestFailed(request.request_id, FailureKind.SUPERSEDED, "newer wins"))
    assert world.status.state is State.RUNNING
    assert world.pass_time(40, until=SendRequest) is not None


# --- prompt, subtask, stats, settings ---


def test_a_new_prompt_is_asked_for_at_once(world):
    request = world.run()
    world.bridge.set_prompt(world.now, "open the drawer", reset=False)
    following = world.pass_time(60, until=SendRequest)
    assert world.now < request.observation.oldest_ns + 10 * 40 * MS
    assert following.observation.prompt == "open the drawer"
    assert world.status.prompt == "open the drawer"
    assert world.status.state is State.RUNNING


def test_a_new_prompt_with_reset_forgets_the_running_chunk_and_resets_the_policy(world):
    world.run()
    world.bridge.set_prompt(world.now, "open the drawer", reset=True)
    effects = world.collect()
    assert len(of(effects, ResetPolicy)) == 1
    assert len(holds(effects)) == 2


def test_a_subtask_is_shown_when_it_changes_with_the_stamp_it_was_made_for(world):
    request = world.run()
    words = {"text": "reach for the cube", "ms": 10.0, "age_ms": 100.0}
    request = world.pass_time(2_000, until=SendRequest)
    (first,) = of(world.answer(request, subtask=words), PublishSubtask)
    assert first == PublishSubtask(
        stamp_ns=request.observation.oldest_ns - 100 * MS,
        text="reach for the cube",
        prompt="stack the cubes",
        sequence=1,
    )
    same = world.answer(world.pass_time(2_000, until=SendRequest), subtask=words)
    assert of(same, PublishSubtask) == []
    words = words | {"text": "close the gripper"}
    (second,) = of(
        world.answer(world.pass_time(2_000, until=SendRequest), subtask=words), PublishSubtask
    )
    assert (second.text, second.sequence) == ("close the gripper", 2)


FAILED_PLANNER = {
    "text": "",
    "ms": 1.0,
    "age_ms": 0.0,
    "error": {"code": "internal", "message": "out of memory"},
}


def test_a_planner_that_fails_is_in_the_status_until_it_answers_again(world):
    world.run()
    words = {"text": "reach for the cube", "ms": 10.0, "age_ms": 0.0}
    world.answer(world.pass_time(2_000, until=SendRequest), subtask=words)
    assert (world.status.cause, world.status.message) == ("running", "")
    before = world.status
    request = world.pass_time(2_000, until=SendRequest)
    (shown,) = of(world.answer(request, subtask=FAILED_PLANNER), PublishSubtask)
    assert shown.text == "", "the words of before are not what it is doing now"
    assert world.status.state is State.RUNNING
    assert world.status.message == "acting without a subtask: internal: out of memory"
    assert world.status.is_news_after(before)
    assert world.bridge.planner_error == "internal: out of memory"
    world.answer(world.pass_time(2_000, until=SendRequest), subtask=words)
    assert (world.status.cause, world.status.message) == ("running", "")


@pytest.mark.parametrize(
    "end",
    [
        lambda w: w.bridge.reset(w.now),
        lambda w: w.event(LinkDown("gone")),
        lambda w: w.bridge.deactivate(w.now),
    ],
    ids=["reset", "link lost", "not active"],
)
def test_a_planners_failure_is_forgotten_with_the_chunk_it_belongs_to(world, end):
    world.run()
    world.answer(world.pass_time(2_000, until=SendRequest), subtask=FAILED_PLANNER)
    assert world.bridge.planner_error
    end(world)
    assert world.bridge.planner_error == ""


def test_what_holds_the_robot_comes_before_the_planner(world):
    world.run()
    world.answer(world.pass_time(2_000, until=SendRequest), subtask=FAILED_PLANNER)
    world.bridge.hold(world.now)
    assert world.status.message == "held by ~/hold; ~/reset goes on"


def test_stats_add_up_and_count_what_was_dropped(world):
    world.run()
    request = world.pass_time(2_000, until=SendRequest)
    timing = {"server_timing": {"infer_ms": 25.0}}
    (stats,) = of(world.answer(request, latency_ms=60, **timing), PublishStats)
    assert stats.total == pytest.approx(0.06)
    assert stats.server == pytest.approx(0.025)
    parts = stats.preprocess + stats.serialize + stats.network + stats.server
    assert parts == pytest.approx(stats.total)
    assert (stats.serialize, stats.bytes_up, stats.bytes_down) == (0.002, 452_000, 7_000)
    assert stats.sequence == 2
    assert stats.steps_skipped >= 1
    assert 0 < stats.observation_age < 0.1
    request = world.pass_time(2_000, until=SendRequest)
    (stats,) = of(world.answer(request, np.zeros((2, 2))), PublishStats)
    assert (stats.sequence, stats.chunks_dropped, stats.deadline_misses) == (0, 1, 0)
    assert math.isnan(stats.server)


def test_a_server_that_claims_more_time_than_there_was_makes_no_negative_network(world):
    world.run()
    request = world.pass_time(2_000, until=SendRequest)
    (stats,) = of(world.answer(request, server_timing={"infer_ms": 9e9}), PublishStats)
    assert stats.network == 0.0


def test_an_answer_later_than_its_chunk_counts_as_a_missed_deadline(world):
    world.run()
    request = world.pass_time(2_000, until=SendRequest)
    (stats,) = of(world.answer(request, latency_ms=1_500), PublishStats)
    assert (stats.chunks_dropped, stats.deadline_misses) == (1, 1)
    assert world.status.message == (
        "chunk 2 came 1.50 s after its observation, max_chunk_age is 1.00 s"
    )


def test_new_settings_are_used_from_the_next_decision_on(world, settings):
    world.run()
    link = dataclasses.replace(settings.link, request_timeout=0.25)
    world.bridge.update_settings(dataclasses.replace(settings, link=link, execution_horizon=0))
    assert world.pass_time(40, until=SendRequest).timeout == 0.25


def test_activation_starts_the_counters_anew(world):
    world.run()
    request = world.pass_time(2_000, until=SendRequest)
    world.event(RequestFailed(request.request_id, FailureKind.TIMEOUT, "late"))
    assert world.bridge.deadline_misses == 1
    world.bridge.deactivate(world.now)
    world.bridge.activate(world.now)
    assert world.bridge.deadline_misses == 0
