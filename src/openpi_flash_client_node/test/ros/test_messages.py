"""messages.py: effects as ROS messages."""

import dataclasses

import numpy as np
import pytest
from builtin_interfaces.msg import Time

from openpi_flash_client_node.ros import messages
from openpi_flash_msgs.action import RunPolicy
from openpi_flash_msgs.msg import ActionChunk, InferenceStats, PolicyStatus
from openpi_flash_robot.bridge.chunk_description import ChunkDescription
from openpi_flash_robot.bridge.diagnostics import DiagnosticReport, Level
from openpi_flash_robot.bridge.drop_reason import DropReason
from openpi_flash_robot.bridge.effects import (
    PublishChunk,
    PublishStats,
    PublishSubtask,
)
from openpi_flash_robot.bridge.goal_run import EndReason
from openpi_flash_robot.bridge.instruction import Instruction
from openpi_flash_robot.bridge.status import Cause, Condition, State, Status
from openpi_flash_robot.hold import HoldKind
from openpi_flash_robot.play.trajectory import Trajectory

DESCRIPTION = ChunkDescription(
    names=("a", "b"),
    kinds=("position", "gripper"),
    units=("rad", "1"),
    references=("absolute", "absolute"),
    model="pi05",
    checkpoint="19999",
)


def test_times_keep_every_nanosecond():
    assert messages.time_message(3_000_000_007) == Time(sec=3, nanosec=7)
    assert messages.stamp_of(Time(sec=3, nanosec=7)) == 3_000_000_007
    assert messages.duration_message(40_000_000).nanosec == 40_000_000


def test_a_chunk_is_row_major_with_its_times_and_names():
    actions = np.arange(6.0).reshape(3, 2)
    instruction = Instruction("go", version=3, episode=2)
    chunk = PublishChunk(
        5_000_000_000, 4_900_000_000, 20_000_000, 9, 2, actions, instruction, DESCRIPTION
    )
    message = messages.chunk_message(chunk)
    assert list(message.values) == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert (message.horizon, message.first_step, message.sequence) == (3, 2, 9)
    assert message.names == ["a", "b"]
    assert message.kinds == [ActionChunk.POSITION, ActionChunk.GRIPPER]
    assert message.units == ["rad", "1"]
    assert message.references == [ActionChunk.ABSOLUTE, ActionChunk.ABSOLUTE]
    assert (message.model, message.checkpoint) == ("pi05", "19999")
    assert (message.prompt, message.prompt_version, message.episode) == ("go", 3, 2)
    assert messages.stamp_of(message.header.stamp) == 5_000_000_000
    assert messages.stamp_of(message.observation_stamp) == 4_900_000_000
    assert message.step_dt.nanosec == 20_000_000


def test_a_chunk_whose_columns_were_reordered_is_still_row_major():
    actions = np.asfortranarray(np.arange(6.0).reshape(3, 2))
    chunk = PublishChunk(0, 0, 1, 1, 0, actions, Instruction(""), DESCRIPTION)
    assert list(messages.chunk_message(chunk).values) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(("start_ns", "stamp"), [(None, 0), (5_000_000_007, 5_000_000_007)])
def test_a_trajectory_has_a_stamp_positions_velocities_and_times(start_ns, stamp):
    trajectory = Trajectory(
        start_ns,
        np.array([40_000_000, 1_080_000_000]),
        np.array([[1.0, 2.0], [3.0, 4.0]]),
        np.array([[0.5, 0.6], [0.0, 0.0]]),
    )
    message = messages.trajectory_message(trajectory, ("a", "b"))
    assert message.joint_names == ["a", "b"]
    assert messages.stamp_of(message.header.stamp) == stamp
    assert [list(point.positions) for point in message.points] == [[1.0, 2.0], [3.0, 4.0]]
    assert [list(point.velocities) for point in message.points] == [[0.5, 0.6], [0.0, 0.0]]
    due = [(p.time_from_start.sec, p.time_from_start.nanosec) for p in message.points]
    assert due == [(0, 40_000_000), (1, 80_000_000)]


def test_a_subtask_carries_the_stamp_of_its_observation_its_age_and_the_planners_error():
    message = messages.subtask_message(PublishSubtask(7, "reach", "go", 3, 0.25, "slow"))
    assert (message.age, message.error) == (0.25, "slow")
    assert (message.text, message.prompt, message.sequence) == ("reach", "go", 3)
    assert message.header.stamp == Time(nanosec=7)


def test_stats_keep_what_is_unknown_unknown():
    stats = PublishStats(
        stamp_ns=1,
        observation_ns=5,
        observation_age=0.1,
        camera_skew=0.02,
        preprocess=0.003,
        serialize=0.002,
        network=0.01,
        server=float("nan"),
        total=0.02,
        bytes_up=452_000,
        bytes_down=7_000,
        jpeg_quality=84,
        link_rate=18e6,
        link_queue=float("nan"),
        steps_skipped=4,
        sequence=5,
        drop_reason=3,
        inferences=9,
        chunks_dropped=6,
        deadline_misses=7,
        drop_counts=(3, 0, 0, 6),
    )
    message = messages.stats_message(stats)
    assert np.isnan(message.server)
    assert message.observation_age == pytest.approx(0.1)
    assert message.serialize == pytest.approx(0.002)
    assert (message.bytes_up, message.bytes_down) == (452_000, 7_000)
    assert (message.jpeg_quality, message.link_rate) == (84, 18e6)
    assert np.isnan(message.link_queue)
    assert (message.steps_skipped, message.sequence) == (4, 5)
    assert (message.inferences, message.chunks_dropped, message.deadline_misses) == (9, 6, 7)
    assert message.drop_reason == InferenceStats.DROP_TIMEOUT
    assert list(message.drop_counts) == [3, 0, 0, 6]
    assert message.observation_stamp == Time(nanosec=5)


def test_a_status_says_what_the_settings_and_the_bridge_say(settings):
    condition = Condition(State.HOLDING, Cause.LATE, "why", resumes_by_itself=True)
    instruction = Instruction("go", version=3, episode=2)
    status = Status(
        condition,
        instruction,
        "pi05",
        "19999",
        3,
        0.25,
        9,
        0.5,
        0.01,
        intervention=True,
        held_for=1.5,
        jpeg_quality=92,
        transport="websocket",
    )
    settings = dataclasses.replace(
        settings, link=dataclasses.replace(settings.link, session="arm-1")
    )
    message = messages.status_message(status, settings, 5)
    assert (message.state, message.message, message.prompt) == (4, "why", "go")
    assert (message.cause, message.resumes_by_itself) == (PolicyStatus.CAUSE_LATE, True)
    assert (message.model, message.checkpoint) == ("pi05", "19999")
    assert (message.prompt_version, message.episode, message.session) == (3, 2, "arm-1")
    assert message.held_for == pytest.approx(1.5)
    assert message.jpeg_quality == 92
    assert message.intervention
    assert message.limited_share == pytest.approx(0.5)
    assert message.tracking_error == pytest.approx(0.01)
    assert (message.transport, message.server) == ("websocket", "127.0.0.1:5555")
    assert (message.dry_run, message.sequence, message.steps_buffered) == (False, 3, 9)
    assert message.chunk_age == pytest.approx(0.25)


def test_causes_have_the_numbers_of_the_message_and_every_reason_to_hold_is_one():
    ours = {f"CAUSE_{cause.name}": cause.value for cause in Cause}
    assert ours == {name: getattr(PolicyStatus, name) for name in ours}
    assert {kind.name for kind in HoldKind} <= {cause.name for cause in Cause}


def test_the_reasons_of_dropped_chunks_and_ended_goals_have_the_numbers_of_the_messages():
    drops = {f"DROP_{reason.name}": reason.value for reason in DropReason}
    ends = {reason.name: reason.value for reason in EndReason}
    assert drops == constants(InferenceStats, "DROP_")
    assert ends == constants(RunPolicy.Result)


def constants(message, prefix=""):
    """The constants of a message whose names begin with a prefix."""
    names = (name for name in dir(message) if name.isupper() and name.startswith(prefix))
    found = {name: getattr(message, name) for name in names}
    return {name: value for name, value in found.items() if isinstance(value, int)}


def test_diagnostics_name_their_entries():
    message = messages.diagnostics_message(
        [DiagnosticReport("execution", Level.WARN, "why", {"a": "1"})], "/left/client_node", 5
    )
    (entry,) = message.status
    assert (entry.name, entry.level, entry.message) == (
        "/left/client_node: execution",
        b"\x01",
        "why",
    )
    assert [(value.key, value.value) for value in entry.values] == [("a", "1")]


def test_the_statistics_of_the_bridge_are_those_of_the_message():
    ours = {field.name for field in dataclasses.fields(PublishStats)} - {
        "stamp_ns",
        "observation_ns",
    }
    assert ours == set(InferenceStats.get_fields_and_field_types()) - {
        "header",
        "observation_stamp",
    }
