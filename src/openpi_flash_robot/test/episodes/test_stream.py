"""stream.py: which messages an episode gets of a bridge that runs in virtual time."""

import dataclasses
from collections import Counter

import pytest
from bridge_world import MS

from openpi_flash_robot.bridge.effects import PublishSubtask, PublishTrajectory
from openpi_flash_robot.episodes.definitions import (
    ACTION_CHUNK,
    BOOL,
    JOINT_TRAJECTORY,
    POLICY_STATUS,
    STRING,
    SUBTASK,
    UnknownTypeError,
    schema_of,
)
from openpi_flash_robot.episodes.stream import EpisodeStream

SUBTASK_EFFECT = PublishSubtask(5, "grasp", "stack", 1)


@pytest.fixture
def stream(settings):
    return EpisodeStream(settings, "/openpi")


def made(entries):
    """The messages, made as the writer's thread makes them."""
    return [e.data if isinstance(e.data, bytes) else e.data() for e in entries]


def told(entries):
    return [(entry.topic, entry.kind) for entry in entries]


def test_an_episode_begins_with_prompt_intervention_status_and_subtask(stream, world):
    begin = [
        ("/openpi/prompt", STRING),
        ("/openpi/intervention", BOOL),
        ("/openpi/status", POLICY_STATUS),
    ]
    assert told(stream.standing(1, world.status)) == begin
    stream.remember(SUBTASK_EFFECT)
    entries = stream.standing(2, world.status)
    assert told(entries) == [*begin, ("/openpi/subtask", SUBTASK), ("/openpi/subtask_text", STRING)]
    assert {entry.log_ns for entry in entries} == {2}
    assert b"grasp" in made(entries)[-1]


def test_commands_are_recorded_for_their_controllers_and_chunks_as_they_came(stream, world):
    world.run()
    world.pass_time(1_000)
    commands = [effect for effect in world.effects if isinstance(effect, PublishTrajectory)]
    assert commands
    kinds = Counter()
    for effect in world.effects:
        entries = stream.effect(world.now, effect)
        assert all(made(entries))
        kinds.update(told(entries))
    topics = Counter((effect.controller.topic, JOINT_TRAJECTORY) for effect in commands)
    assert topics.items() <= kinds.items()
    assert kinds["/openpi/action_chunk", ACTION_CHUNK] >= 1
    assert set(kinds) == {*topics, ("/openpi/action_chunk", ACTION_CHUNK)}


def test_a_status_is_recorded_on_change_and_twice_a_second(stream, world):
    status = world.status
    stream.standing(0, status)
    assert stream.status(100 * MS, status) == []
    assert stream.status(499 * MS, dataclasses.replace(status, chunk_age=7.0)) == []
    regular = [("/openpi/status", POLICY_STATUS), ("/openpi/intervention", BOOL)]
    assert told(stream.status(500 * MS, status)) == regular
    taken = dataclasses.replace(status, intervention=True)
    entries = stream.status(520 * MS, taken)
    assert told(entries) == regular
    assert made(entries)[-1][-1] == 1
    assert stream.status(540 * MS, taken) == []
    again = dataclasses.replace(taken, instruction=taken.instruction.changed("put it down"))
    assert ("/openpi/prompt", STRING) in told(stream.status(560 * MS, again))
    assert stream.status(20 * MS, again) != []  # a clock that was set back hides nothing


def test_a_definition_holds_all_that_it_is_made_of():
    text = schema_of(JOINT_TRAJECTORY, lambda _: None).data.decode()
    for part in ("std_msgs/Header", "builtin_interfaces/Time", "builtin_interfaces/Duration"):
        assert f"\nMSG: {part}\n" in text
    own = {"a_msgs/msg/A": "B[] several\nstring<=5 name\n", "a_msgs/msg/B": "float64[3] x\n"}
    assert schema_of("a_msgs/msg/A", own.get).data.decode().endswith("a_msgs/B\nfloat64[3] x\n")
    with pytest.raises(UnknownTypeError, match="a_msgs/msg/B is not known"):
        schema_of("a_msgs/msg/A", {"a_msgs/msg/A": "B b\n"}.get)
