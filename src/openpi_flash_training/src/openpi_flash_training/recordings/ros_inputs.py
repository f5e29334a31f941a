"""Which topics are a robot's cameras, joints and commands, and what its numbers are made of.

The node's parameter file says it (``config/robots/*.yaml``): it feeds a policy from these topics,
and so its recordings are read by it. Without one, topics are found by the names of the robot's
cameras and joints.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from openpi_flash_models.robots.robot import Robot
from openpi_flash_robot.run.settings_file import file_parameters
from openpi_flash_robot.settings.action_meaning import ActionMeaning
from openpi_flash_robot.settings.axis_play import CannotPlayError, Reading, play_of
from openpi_flash_robot.settings.controllers import Controller, ControllerKind
from openpi_flash_robot.settings.node_settings import NodeSettings
from openpi_flash_robot.settings.parameter_kinds import ParameterError
from openpi_flash_robot.settings.parse_settings import settings_from_parameters
from openpi_flash_robot.settings.state_inputs import StateInput, StateKind
from openpi_flash_training.episodes.error import DataError
from openpi_flash_training.episodes.recorded import INTERVENTION
from openpi_flash_training.recordings.ros_values import (
    BOOL,
    COMPRESSED_IMAGE,
    IMAGE,
    JOINT_STATE,
    JOINT_TRAJECTORY,
    STRING,
)

_JOINT_FIELDS = {
    StateKind.JOINT_POSITIONS: "position",
    StateKind.JOINT_VELOCITIES: "velocity",
    StateKind.JOINT_EFFORTS: "effort",
}
_TEXTS = {"prompt": ("/prompt",), "subtask": ("/subtask_text", "/subtask")}
"""How the topics of texts end, by what they are."""
_BASE_PARTS = {2: (0, 5), 3: (0, 1, 5)}
"""Which numbers of a twist a base takes, by how many axes it has."""


@dataclass(frozen=True)
class StateSource:
    """Where one number of the state comes from: ``value * scale + offset``.

    Attributes:
        stream: ``position:<joint>``, ``velocity:<joint>``, ``effort:<joint>`` or ``input:<name>``.
        index: which number of the stream.
        scale: factor.
        offset: what is added.
    """

    stream: str
    index: int = 0
    scale: float = 1.0
    offset: float = 0.0


@dataclass(frozen=True)
class ActionSource:
    """Where one number of the action comes from: ``(command - offset) / scale``.

    Attributes:
        joint: whose command.
        scale: what 1 of the policy is in the joint's unit.
        offset: of an absolute number.
        reading: whether it is a position or a rate.
    """

    joint: str
    scale: float = 1.0
    offset: float = 0.0
    reading: Reading = Reading.ABSOLUTE


@dataclass(frozen=True)
class CommandTopic:
    """A topic of commands.

    Attributes:
        topic: of the commands.
        joints: what it moves, in the order of the command; empty: the messages name them.
        renamed: the robot's names of joints, by those in the messages.
        are_rates: whether commands say how fast to go.
        parts: which numbers of a message are the joints'; empty: the first ones.
        is_action: whether the topic is the name of a ROS action: no bag has its goals, and the
            node's own recordings have a JointTrajectory under its name.
    """

    topic: str
    joints: tuple[str, ...] = ()
    renamed: Mapping[str, str] = field(default_factory=dict)
    are_rates: bool = False
    parts: tuple[int, ...] = ()
    is_action: bool = False


@dataclass(frozen=True)
class RosInputs:
    """What is read of a recording.

    Attributes:
        cameras: topic by the keys that lead to the image in a request.
        joint_topics: of joint states, with the prefix of their joints' names.
        inputs: other numbers of the state by name.
        commands: topics of commands.
        state: every number of the robot's state.
        actions: every number of its actions.
        texts: topics of ``prompt`` and ``subtask``.
        intervention: topic that says whether a person has taken over; empty for none.
    """

    cameras: Mapping[tuple[str, ...], str]
    joint_topics: tuple[tuple[str, str], ...]
    inputs: Mapping[str, StateInput]
    commands: tuple[CommandTopic, ...]
    state: tuple[StateSource, ...]
    actions: tuple[ActionSource, ...]
    texts: Mapping[str, str] = field(default_factory=dict)
    intervention: str = ""


def inputs_by_node_file(path: Path, robot: Robot) -> RosInputs:
    """Read the node's parameter file.

    Raises:
        DataError: it cannot be read, or does not fit the robot.
    """
    try:
        settings = settings_from_parameters(file_parameters(path))
        return _of_settings(settings, robot)
    except (ParameterError, CannotPlayError) as error:
        raise DataError(path, str(error)) from error


def inputs_by_name(
    path: Path, robot: Robot, types: Mapping[str, str], chosen: Mapping[str, str]
) -> RosInputs:
    """Find the topics of a recording by the names of the robot's cameras and joints.

    Args:
        path: of the recording, for errors.
        robot: whose names count.
        types: type of each topic.
        chosen: topics that the user named, by the cameras' keys.

    Raises:
        DataError: a required camera has no topic, or several.
    """
    pictures = [t for t, kind in types.items() if kind in (IMAGE, COMPRESSED_IMAGE)]
    cameras = {}
    for camera in robot.cameras:
        found = chosen.get("/".join(camera.path)) or _camera_topic(
            path, camera.path, pictures, required=camera.required
        )
        if found:
            cameras[camera.path] = found
    trajectories = [t for t, kind in types.items() if kind == JOINT_TRAJECTORY]
    return RosInputs(
        cameras=cameras,
        joint_topics=tuple((t, "") for t, kind in types.items() if kind == JOINT_STATE),
        inputs={},
        commands=tuple(CommandTopic(topic) for topic in trajectories),
        state=tuple(StateSource(f"position:{n}") for part in robot.state for n in part.names),
        actions=tuple(ActionSource(name) for name in robot.action_names),
    )


def topic_keys(robot: Robot) -> tuple[str, ...]:
    """What a user may name the topic of: the cameras by their keys, and what is read besides."""
    cameras = ("/".join(camera.path) for camera in robot.cameras)
    return (*cameras, *_TEXTS, INTERVENTION)


def with_topics(
    source: Path,
    inputs: RosInputs,
    robot: Robot,
    types: Mapping[str, str],
    chosen: Mapping[str, str],
) -> RosInputs:
    """Inputs with the topics of texts and interventions, and those that the user chose.

    A camera that the robot may lack and that was not recorded is left out, and so is an action of
    ROS of which the recording has no trajectories.

    Args:
        source: the recording, for errors.
        inputs: of the robot.
        robot: whose cameras they are.
        types: type of each topic of the recording.
        chosen: topic by one of the ``topic_keys``.

    Raises:
        DataError: the recording lacks a topic that was chosen.
    """
    for key, topic in chosen.items():
        if topic not in types:
            known = ", ".join(sorted(types))
            raise DataError(
                source, f"lacks the topic {topic} of --topic {key}={topic}; it has {known}"
            )
    texts = {
        name: topic
        for name, endings in _TEXTS.items()
        if (topic := chosen.get(name) or _ending(types, STRING, endings))
    }
    named = {c.path: chosen[key] for c in robot.cameras if (key := "/".join(c.path)) in chosen}
    found = {path: _recorded(topic, types) for path, topic in inputs.cameras.items()}
    cameras = {**found, **named}
    required = {camera.path for camera in robot.cameras if camera.required}
    return replace(
        inputs,
        cameras={path: t for path, t in cameras.items() if t in types or path in required},
        commands=tuple(
            command
            for command in inputs.commands
            if not command.is_action or types.get(command.topic) == JOINT_TRAJECTORY
        ),
        texts=texts,
        intervention=chosen.get(INTERVENTION) or _ending(types, BOOL, ("/intervention",)),
    )


def _of_settings(settings: NodeSettings, robot: Robot) -> RosInputs:
    seen = settings.observation
    by_key = {camera.key: camera.topic for camera in seen.cameras}
    cameras = {}
    for camera in robot.cameras:
        if camera.path in by_key:
            cameras[camera.path] = by_key[camera.path]
        elif camera.required:
            raise ParameterError(f"no camera has the key {'/'.join(camera.path)}")
    prefixes = seen.joint_state_prefixes or ("",) * len(seen.joint_state_topics)
    state: list[StateSource] = []
    inputs: dict[str, StateInput] = {}
    for part in robot.state:
        sources = [s for given in seen.states if given.key == part.path for s in _sources(given)]
        inputs |= {
            given.name: given
            for given in seen.states
            if given.key == part.path and not given.kind.is_of_joints
        }
        if len(sources) != part.size:
            raise ParameterError(
                f"{'/'.join(part.path)} has {len(sources)} numbers, the robot {robot.name} "
                f"has {part.size}"
            )
        state += sources
    return RosInputs(
        cameras=cameras,
        joint_topics=tuple(zip(seen.joint_state_topics, prefixes, strict=True)),
        inputs=inputs,
        commands=tuple(
            _command(c) for c in settings.controllers if c.kind is not ControllerKind.POSE
        ),
        state=tuple(state),
        actions=_actions(settings, robot),
    )


def _sources(given: StateInput) -> list[StateSource]:
    if given.kind is StateKind.TF:
        raise ParameterError(
            f"state.{given.name} is of kind tf, which cannot be read from recordings; record the "
            "pose as geometry_msgs/PoseStamped"
        )
    scaled = list(zip(given.scale, given.offset, strict=True))
    if given.kind.is_of_joints:
        name = _JOINT_FIELDS[given.kind]
        return [
            StateSource(f"{name}:{joint}", 0, scale, offset)
            for joint, (scale, offset) in zip(given.joints, scaled, strict=True)
        ]
    return [
        StateSource(f"input:{given.name}", i, scale, offset)
        for i, (scale, offset) in enumerate(scaled)
    ]


def _command(controller: Controller) -> CommandTopic:
    renamed = dict(zip(controller.sent_names, controller.joints, strict=True))
    parts: tuple[int, ...] = ()
    if controller.kind is ControllerKind.BASE:
        parts = _BASE_PARTS[len(controller.joints)]
    return CommandTopic(
        controller.topic,
        controller.joints,
        renamed,
        are_rates=controller.kind.takes_rates,
        parts=parts,
        is_action=controller.kind is ControllerKind.GRIPPER,
    )


def _actions(settings: NodeSettings, robot: Robot) -> tuple[ActionSource, ...]:
    columns = settings.action_columns
    if len(columns) != len(settings.axes):
        raise ParameterError(
            "poses of end effectors as actions cannot be read from recordings yet; use a robot "
            "whose actions are joints"
        )
    sources = []
    for action in robot.actions:
        if action.name not in columns:
            known = ", ".join(columns)
            raise ParameterError(f"action_columns has no {action.name}, it has {known}")
        axis = columns.index(action.name)
        name = settings.axes[axis]
        play = play_of(
            name,
            ActionMeaning(
                action.name,
                action.interface,
                action.unit,
                action.reference,
                action.frame,
                action.rotation,
                float("nan") if action.closed is None else action.closed,
                float("nan") if action.open is None else action.open,
            ),
            kind=settings.action_kinds[axis],
            scale=settings.action_scale[axis],
            gripper=next((g for g in settings.grippers if g.joint == name), None),
            controller=None,
        )
        if play.reading is Reading.FROM_OBSERVED or play.meaning.interface == "eef_pose":
            raise ParameterError(
                f"the action {play.meaning} cannot be read from recordings of joint commands"
            )
        sources.append(ActionSource(name, play.scale, play.offset, play.reading))
    return tuple(sources)


def _camera_topic(
    path: Path, key: tuple[str, ...], topics: list[str], *, required: bool
) -> str | None:
    last = "/".join(key).rpartition("/")[2]
    short = last.removesuffix("_image").removesuffix("_rgb").removesuffix("_left")
    for word in (last, short, short.removeprefix("cam_"), short.partition("_")[0]):
        found = [topic for topic in topics if word and word in topic]
        plain = [topic for topic in found if not topic.endswith("/compressed")]
        if len(found) == 1 or len(plain) == 1:
            return (plain or found)[0]
        if found:
            raise DataError(
                path,
                f"{', '.join(found)} may all be the camera {'/'.join(key)}; name it by --topic "
                f"{'/'.join(key)}=TOPIC",
            )
    if not required:
        return None
    there = ", ".join(topics) or "no images"
    raise DataError(
        path,
        f"lacks the camera {'/'.join(key)}: no topic of images has its name; there are {there}; "
        f"name it by --topic {'/'.join(key)}=TOPIC",
    )


def _recorded(topic: str, types: Mapping[str, str]) -> str:
    """A camera's topic, or its compressed one where only that was recorded."""
    compressed = f"{topic}/compressed"
    return compressed if topic not in types and compressed in types else topic


def _ending(types: Mapping[str, str], kind: str, endings: tuple[str, ...]) -> str:
    for ending in endings:
        for topic, of in types.items():
            if of == kind and topic.endswith(ending):
                return topic
    return ""
