"""How each recording of a source is read, and what becomes of its streams."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from openpi_flash_models.robots.robot import Robot
from openpi_flash_training.conversion.columns import ColumnPlan, PlanOf
from openpi_flash_training.conversion.positronic_columns import (
    TrainingCodec,
    positronic_plan,
)
from openpi_flash_training.conversion.robot_columns import robot_plan
from openpi_flash_training.episodes.recorded import RecordedEpisode
from openpi_flash_training.recordings.messages import open_messages
from openpi_flash_training.recordings.positronic import read_positronic_episode
from openpi_flash_training.recordings.ros_episode import read_ros_episode
from openpi_flash_training.recordings.ros_inputs import (
    RosInputs,
    inputs_by_name,
    inputs_by_node_file,
    with_topics,
)

Readers = list[Callable[[], RecordedEpisode]]


@dataclass(frozen=True)
class RosOptions:
    """How ROS messages become a robot's numbers.

    Attributes:
        robot: whose policy is trained.
        node_file: the node's parameters; None: topics are found by name.
        topics: topics that the user named, by key.
        commanded: True demands commands as actions, False never uses them, None takes them where
            they are.
        image_size: height and width of images; None: as recorded.
    """

    robot: Robot
    node_file: Path | None = None
    topics: Mapping[str, str] = field(default_factory=dict)
    commanded: bool | None = None
    image_size: tuple[int, int] | None = None


def ros_readers(paths: Sequence[Path], options: RosOptions) -> tuple[Readers, PlanOf]:
    """Readers of recordings with ROS messages."""
    found: dict[str, RosInputs] = {}

    def read(path: Path) -> RecordedEpisode:
        file = open_messages(path)
        if options.node_file is not None:
            inputs = inputs_by_node_file(options.node_file, options.robot)
        else:
            inputs = inputs_by_name(path, options.robot, file.types, options.topics)
        inputs = with_topics(path, inputs, options.robot, file.types, options.topics)
        found[str(path)] = inputs
        return read_ros_episode(file, inputs)

    def plan(episode: RecordedEpisode) -> ColumnPlan:
        return robot_plan(
            episode,
            options.robot,
            found[episode.source],
            commanded=options.commanded,
            image_size=options.image_size,
        )

    return [partial(read, path) for path in paths], plan


def positronic_readers(
    folders: Sequence[Path],
    codec: TrainingCodec,
    *,
    flip_grip: bool,
    image_size: tuple[int, int] | None,
) -> tuple[Readers, PlanOf]:
    """Readers of Positronic's recordings."""

    def plan(episode: RecordedEpisode) -> ColumnPlan:
        return positronic_plan(episode, codec, flip_grip=flip_grip, image_size=image_size)

    return [partial(read_positronic_episode, folder) for folder in folders], plan
