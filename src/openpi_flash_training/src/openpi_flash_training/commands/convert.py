"""`openpi-flash dataset convert` and `append`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from openpi_flash_models.robots.robot import Robot
    from openpi_flash_training.conversion.columns import PlanOf
    from openpi_flash_training.conversion.readers import Readers
    from openpi_flash_training.conversion.sources import Kind

DEFAULT_FPS = 15
_KINDS = {
    "ros": "recordings with ROS messages",
    "positronic": "Positronic's recordings",
    "lerobot": "a LeRobot dataset",
}
_CODECS = "ee, ee_joints, ee_traj, ee_joints_traj, joints_traj or droid"
SourceArgument = Annotated[
    Path,
    typer.Argument(
        help="A rosbag2, an MCAP file, a folder of them, Positronic's recordings, or a LeRobot "
        "dataset.",
        show_default=False,
    ),
]
OutArgument = Annotated[Path, typer.Argument(help="Folder of the dataset.", show_default=False)]
CodecOption = Annotated[
    str | None, typer.Option(help=f"Positronic's codec: {_CODECS}.", show_default=False)
]
RobotOption = Annotated[
    str | None, typer.Option(help="The robot whose policy is trained.", show_default=False)
]
RobotFileOption = Annotated[
    Path | None, typer.Option(help="A file that defines the robot.", show_default=False)
]
NodeFileOption = Annotated[
    Path | None,
    typer.Option(
        help="The node's parameters (config/robots/*.yaml) say which topics are read; else they "
        "are found by name.",
        show_default=False,
    ),
]
TopicOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY=TOPIC",
        help="The topic of a camera (observation/wrist_image), of prompt, subtask or intervention.",
        show_default=False,
    ),
]
TaskOption = Annotated[
    str | None,
    typer.Option(help="The task in words; by default as it was recorded.", show_default=False),
]
ActionsOption = Annotated[
    str,
    typer.Option(
        help="commanded, measured (the state one frame later), or auto: commanded where there are "
        "commands."
    ),
]
MaxGapOption = Annotated[
    float | None,
    typer.Option(
        min=0.0,
        help="Longest silence of a sensor that is bridged, s; by default 0.5.",
        show_default=False,
    ),
]
MinLengthOption = Annotated[
    float | None,
    typer.Option(
        min=0.0,
        help="Shortest piece of a recording that is kept, s; by default 1.",
        show_default=False,
    ),
]
ImageSizeOption = Annotated[
    int | None,
    typer.Option(
        min=16,
        help="Side of square images, pixels, with black bars; else as recorded (codecs: 224).",
    ),
]
PngOption = Annotated[bool, typer.Option("--png", help="Store images as PNG, not as video.")]
InterventionsOption = Annotated[
    bool, typer.Option("--only-interventions", help="Keep only what a person did.")
]
SuccessesOption = Annotated[
    bool, typer.Option("--only-successes", help="Keep only what was marked as a success.")
]
FlipGripOption = Annotated[
    bool, typer.Option("--flip-grip", help="Positronic: the recording's grip is 1 for open.")
]
SkipBadOption = Annotated[
    bool, typer.Option("--skip-bad", help="Leave out recordings that cannot be used, and go on.")
]
NoLintOption = Annotated[bool, typer.Option("--no-lint", help="Do not check the dataset.")]


def convert(
    source: SourceArgument,
    out: OutArgument,
    *,
    codec: CodecOption = None,
    robot: RobotOption = None,
    robot_file: RobotFileOption = None,
    node_file: NodeFileOption = None,
    topic: TopicOption = None,
    fps: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Frames a second; by default 15, or those of a LeRobot dataset.",
            show_default=False,
        ),
    ] = None,
    task: TaskOption = None,
    actions: ActionsOption = "auto",
    max_gap: MaxGapOption = None,
    min_length: MinLengthOption = None,
    image_size: ImageSizeOption = None,
    png: PngOption = False,
    only_interventions: InterventionsOption = False,
    only_successes: SuccessesOption = False,
    flip_grip: FlipGripOption = False,
    skip_bad: SkipBadOption = False,
    version: Annotated[
        str, typer.Option(help="Of the format: v3.0, or v2.1, which openpi reads.")
    ] = "v3.0",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted conversion.")
    ] = False,
    no_lint: NoLintOption = False,
) -> None:
    """Convert recordings to a LeRobot dataset.

    Streams of different rates are sampled at the frames: each has its newest sample at or before
    the frame (docs/datasets.md).
    """
    _run(
        _Wish(
            source,
            out,
            codec=codec,
            robot=robot,
            robot_file=robot_file,
            node_file=node_file,
            topics=topic or [],
            fps=fps,
            task=task,
            actions=actions,
            max_gap=max_gap,
            min_length=min_length,
            image_size=image_size,
            png=png,
            only_interventions=only_interventions,
            only_successes=only_successes,
            flip_grip=flip_grip,
            skip_bad=skip_bad,
            version=version,
            append=resume,
            check=not no_lint,
        )
    )


def append(
    source: SourceArgument,
    out: OutArgument,
    *,
    codec: CodecOption = None,
    robot: RobotOption = None,
    robot_file: RobotFileOption = None,
    node_file: NodeFileOption = None,
    topic: TopicOption = None,
    task: TaskOption = None,
    actions: ActionsOption = "auto",
    max_gap: MaxGapOption = None,
    min_length: MinLengthOption = None,
    image_size: ImageSizeOption = None,
    only_interventions: InterventionsOption = False,
    only_successes: SuccessesOption = False,
    flip_grip: FlipGripOption = False,
    skip_bad: SkipBadOption = False,
    no_lint: NoLintOption = False,
) -> None:
    """Add recordings to a dataset, at its rate and with its features.

    Features must be the same: names, shapes, types. Another dataset may have more: they are left
    out. Recordings that are in the dataset already are left out, too.
    """
    from openpi_flash_training.commands.data_errors import one_line_data_errors

    with one_line_data_errors():
        from openpi_flash_training.dataset.info import read_info

        info = read_info(out)
    _run(
        _Wish(
            source,
            out,
            codec=codec,
            robot=robot,
            robot_file=robot_file,
            node_file=node_file,
            topics=topic or [],
            fps=info.fps,
            task=task,
            actions=actions,
            max_gap=max_gap,
            min_length=min_length,
            image_size=image_size,
            png=not info.video_keys,
            only_interventions=only_interventions,
            only_successes=only_successes,
            flip_grip=flip_grip,
            skip_bad=skip_bad,
            version=info.version,
            append=True,
            check=not no_lint,
        )
    )


@dataclass(frozen=True)
class _Wish:
    """The options of both commands."""

    source: Path
    out: Path
    codec: str | None
    robot: str | None
    robot_file: Path | None
    node_file: Path | None
    topics: list[str]
    fps: int | None
    task: str | None
    actions: str
    max_gap: float | None
    min_length: float | None
    image_size: int | None
    png: bool
    only_interventions: bool
    only_successes: bool
    flip_grip: bool
    skip_bad: bool
    version: str
    append: bool
    check: bool

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width of images."""
        return None if self.image_size is None else (self.image_size, self.image_size)

    @property
    def lengths(self) -> dict[str, float]:
        """Those of the rule of resampling that are given, s."""
        given = {"max_gap": self.max_gap, "min_length": self.min_length}
        return {name: value for name, value in given.items() if value is not None}


def _run(wish: _Wish) -> None:
    from openpi_flash_training.commands.data_errors import one_line_data_errors

    with one_line_data_errors():
        from openpi_flash_training.commands.convert_console import show, summary
        from openpi_flash_training.conversion.convert import ConvertOptions, convert
        from openpi_flash_training.conversion.copy_dataset import copy_dataset
        from openpi_flash_training.conversion.sources import find_recordings
        from openpi_flash_training.dataset.info import read_info
        from openpi_flash_training.episodes.resample import ResampleRule

        kind, paths = find_recordings(wish.source)
        _refuse_unread(wish, kind)
        fps = wish.fps
        if fps is None:
            fps = read_info(wish.source).fps if kind == "lerobot" else DEFAULT_FPS
        options = ConvertOptions(
            rule=ResampleRule(fps, **wish.lengths),
            task=wish.task,
            robot_type=wish.robot or (f"positronic_{wish.codec}" if wish.codec else None),
            as_video=not wish.png,
            only_interventions=wish.only_interventions,
            only_successes=wish.only_successes,
            version=wish.version,
        )
        again = {"append": wish.append, "skip_bad": wish.skip_bad}
        if kind == "lerobot":
            show(copy_dataset(wish.source, wish.out, options, **again), None, fps)
        else:
            readers, plan = _readers(wish, kind, paths)
            show(convert(readers, plan, wish.out, options, **again), len(paths), fps)
        summary(wish.out, check=wish.check)


def _refuse_unread(wish: _Wish, kind: Kind) -> None:
    """Refuse options that say nothing about recordings of this kind."""
    of_ros = {
        "--robot-file": wish.robot_file is not None,
        "--node-file": wish.node_file is not None,
        "--topic": bool(wish.topics),
        "--actions": wish.actions != "auto",
    }
    of_positronic = {"--flip-grip": wish.flip_grip}
    unread = {
        "ros": of_positronic,
        "positronic": of_ros,
        "lerobot": {
            "--codec": wish.codec is not None,
            **of_ros,
            **of_positronic,
            "--image-size": wish.image_size is not None,
            "--max-gap": wish.max_gap is not None,
            "--min-length without --only-interventions": wish.min_length is not None
            and not wish.only_interventions,
        },
    }
    given = [option for option, is_given in unread[kind].items() if is_given]
    if given:
        raise typer.BadParameter(f"{', '.join(given)}: not with {_KINDS[kind]}")


def _readers(wish: _Wish, kind: Kind, paths: list[Path]) -> tuple[Readers, PlanOf]:
    from openpi_flash_training.commands.chosen_config import chosen_robot
    from openpi_flash_training.conversion.positronic_columns import CODECS
    from openpi_flash_training.conversion.readers import (
        RosOptions,
        positronic_readers,
        ros_readers,
    )

    if kind == "positronic":
        if wish.codec not in CODECS:
            given = "" if wish.codec is None else f", not {wish.codec!r}"
            raise typer.BadParameter(f"Positronic's recordings need --codec {_CODECS}{given}")
        codec = CODECS[wish.codec]
        return positronic_readers(paths, codec, flip_grip=wish.flip_grip, image_size=wish.size)
    if wish.codec is not None or wish.robot is None:
        raise typer.BadParameter("recordings with ROS messages need --robot, and no --codec")
    robot = chosen_robot(wish.robot, wish.robot_file)
    options = RosOptions(
        robot=robot,
        node_file=wish.node_file,
        topics=_topics(wish.topics, robot),
        commanded=_commanded(wish.actions),
        image_size=wish.size,
    )
    return ros_readers(paths, options)


def _commanded(actions: str) -> bool | None:
    known = {"auto": None, "commanded": True, "measured": False}
    if actions not in known:
        raise typer.BadParameter(f"--actions is {actions!r}, expected {', '.join(known)}")
    return known[actions]


def _topics(given: list[str], robot: Robot) -> dict[str, str]:
    from openpi_flash_training.recordings.ros_inputs import topic_keys

    known = topic_keys(robot)
    topics = {}
    for one in given:
        key, equals, topic = one.partition("=")
        if not equals or not key or not topic:
            raise typer.BadParameter(f"--topic {one!r} is not KEY=TOPIC")
        if key not in known:
            raise typer.BadParameter(
                f"--topic {one!r}: the robot {robot.name} has no {key}; known are "
                f"{', '.join(known)}"
            )
        topics[key] = topic
    return topics
