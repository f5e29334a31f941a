"""Columns for a robot: its state, its actions and its cameras, in the units of its policy."""

from __future__ import annotations

from openpi_flash_models.robots.robot import Robot
from openpi_flash_robot.settings.axis_play import Reading
from openpi_flash_training.conversion.columns import (
    ACTION,
    IMAGES,
    STATE,
    ColumnPlan,
    Source,
    need,
)
from openpi_flash_training.episodes.error import DataError
from openpi_flash_training.episodes.recorded import RecordedEpisode
from openpi_flash_training.recordings.ros_inputs import ActionSource, RosInputs


def robot_plan(
    episode: RecordedEpisode,
    robot: Robot,
    inputs: RosInputs,
    *,
    commanded: bool | None,
    image_size: tuple[int, int] | None,
) -> ColumnPlan:
    """The columns of an episode.

    An action is what was commanded at the frame; where a recording has no command of an action, it
    is the state one frame later that the action commands (``Robot.hold``).

    Args:
        episode: recorded.
        robot: whose policy is trained.
        inputs: where its numbers come from.
        commanded: True demands commands, False never uses them, None takes them where they are.
        image_size: height and width of images; None: as recorded.

    Raises:
        DataError: the episode lacks a stream.
    """
    state = tuple(Source(s.stream, s.index, s.scale, s.offset) for s in inputs.state)
    need(episode, [source.stream for source in state])
    actions: list[Source] = []
    measured: list[str] = []
    for i, (name, action) in enumerate(zip(robot.action_names, inputs.actions, strict=True)):
        source = None if commanded is False else _commanded(episode, action)
        if source is not None:
            actions.append(source)
            continue
        if commanded:
            need(episode, [f"command:{action.joint}"])
        actions.append(_measured(episode, robot, state, i))
        measured.append(name)
    notes: tuple[str, ...] = ()
    if measured:
        which = "all actions" if len(measured) == len(actions) else ", ".join(measured)
        notes = (f"{which}: taken from the state one frame later, no commands were recorded",)
        if commanded is False:
            notes = (f"{which}: taken from the state one frame later",)
    return ColumnPlan(
        numbers={STATE: state, ACTION: tuple(actions)},
        names={
            STATE: tuple(n for part in robot.state for n in part.names or [""] * part.size),
            ACTION: robot.action_names,
        },
        cameras={
            f"{IMAGES}{key.rpartition('/')[2]}": key
            for key in ("/".join(camera.path) for camera in robot.cameras)
            if key in episode.cameras
        },
        image_size=image_size,
        notes=notes,
    )


def _commanded(episode: RecordedEpisode, action: ActionSource) -> Source | None:
    """A command as the policy would have said it; None where there is none."""
    scale, offset = 1.0 / action.scale, -action.offset / action.scale
    position, rate = f"command:{action.joint}", f"rate:{action.joint}"
    if action.reading.is_rate and rate in episode.numbers:
        return Source(rate, 0, scale, per_frame=action.reading is Reading.PER_STEP)
    if position not in episode.numbers:
        return None
    if not action.reading.is_rate:
        return Source(position, 0, scale, offset)
    is_step = action.reading is Reading.PER_STEP
    return Source(position, 0, scale, change="per_step" if is_step else "per_second")


def _measured(
    episode: RecordedEpisode, robot: Robot, state: tuple[Source, ...], index: int
) -> Source:
    held = None if robot.hold is None else robot.hold[index]
    if held is None:
        raise DataError(
            episode.source,
            f"has no command of {robot.action_names[index]}, and no number of the state is what "
            "it commands; record the commands",
        )
    source = state[held]
    return Source(source.stream, source.index, source.scale, source.offset, ahead=1)
