"""`openpi-flash dataset convert` and `append`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from openpi_flash_training.conversion.columns import PlanOf
    from openpi_flash_training.conversion.convert import EpisodeReport
    from openpi_flash_training.conversion.readers import Readers

DEFAULT_FPS = 15
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
    float, typer.Option(min=0.0, help="Longest silence of a sensor that is bridged, s.")
]
MinLengthOption = Annotated[
    float, typer.Option(min=0.0, help="Shortest piece of a recording that is kept, s.")
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
    max_gap: MaxGapOption = 0.5,
    min_length: MinLengthOption = 1.0,
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
    max_gap: MaxGapOption = 0.5,
    min_length: MinLengthOption = 1.0,
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
    max_gap: float
    min_length: float
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


def _run(wish: _Wish) -> None:
    from openpi_flash_training.commands.data_errors import one_line_data_errors

    with one_line_data_errors():
        from openpi_flash_training.conversion.convert import ConvertOptions, convert
        from openpi_flash_training.conversion.copy_dataset import copy_dataset
        from openpi_flash_training.conversion.sources import find_recordings
        from openpi_flash_training.dataset.info import read_info
        from openpi_flash_training.episodes.resample import ResampleRule

        kind, paths = find_recordings(wish.source)
        fps = wish.fps
        if fps is None:
            fps = read_info(wish.source).fps if kind == "lerobot" else DEFAULT_FPS
        options = ConvertOptions(
            rule=ResampleRule(fps, wish.max_gap, wish.min_length),
            task=wish.task,
            robot_type=wish.robot or (f"positronic_{wish.codec}" if wish.codec else None),
            as_video=not wish.png,
            only_interventions=wish.only_interventions,
            only_successes=wish.only_successes,
            version=wish.version,
        )
        again = {"append": wish.append, "skip_bad": wish.skip_bad}
        if kind == "lerobot":
            _show(copy_dataset(wish.source, wish.out, options, **again), None, fps)
        else:
            readers, plan = _readers(wish, kind, paths)
            _show(convert(readers, plan, wish.out, options, **again), len(paths), fps)
        _summary(wish.out, check=wish.check)


def _readers(wish: _Wish, kind: str, paths: list[Path]) -> tuple[Readers, PlanOf]:
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
    options = RosOptions(
        robot=chosen_robot(wish.robot, wish.robot_file),
        node_file=wish.node_file,
        topics=_pairs(wish.topics),
        commanded=_commanded(wish.actions),
        image_size=wish.size,
    )
    return ros_readers(paths, options)


def _show(reports: Iterator[EpisodeReport], total: int | None, fps: int) -> None:
    for number, report in enumerate(reports, 1):
        of = "" if total is None else f"[{number}/{total}] "
        if not report.lengths:
            problem = report.problem.removeprefix(f"{report.source}: ")
            typer.echo(f"{of}{report.source}: left out: {problem}", err=True)
            continue
        frames = " + ".join(map(str, report.lengths))
        line = f"{of}{report.source}: {frames} frames"
        if report.left_out:
            line += f", {report.left_out} left out"
        typer.echo(line)
        for line in _held_streams(report, fps):
            typer.echo(f"    {line}")
        for note in report.notes:
            typer.echo(f"    note: {note}")
        if report.problem:
            typer.echo(f"    the rest is left out: {report.problem}", err=True)


def _held_streams(report: EpisodeReport, fps: int) -> list[str]:
    """A line for each stream that frames had to wait for; once for the joints of one message."""
    lines: dict[str, list[str]] = {}
    for name, stream in report.streams.items():
        # a gap within a frame changes nothing
        longest = max(2.5 / max(stream.rate, 1e-9), 1 / fps)
        if not stream.is_command and (stream.held or stream.longest_gap > longest):
            said = (
                f"{stream.rate:.3g} Hz, {stream.held} frames held, longest gap "
                f"{stream.longest_gap:.2f} s"
            )
            lines.setdefault(said, []).append(name)
    return [f"{', '.join(names)}: {said}" for said, names in lines.items()]


def _summary(out: Path, *, check: bool) -> None:
    from openpi_flash_training.dataset.reader import Dataset
    from openpi_flash_training.inspection.lint import lint

    data = Dataset.open(out)
    seconds = data.frames / data.fps
    typer.echo(
        f"{out}: {len(data.episodes)} episodes, {data.frames} frames at {data.fps} Hz "
        f"({seconds:.0f} s), LeRobot {data.info.version}"
    )
    if check:
        for finding in lint(data):
            typer.echo(str(finding), err=True)


def _commanded(actions: str) -> bool | None:
    known = {"auto": None, "commanded": True, "measured": False}
    if actions not in known:
        raise typer.BadParameter(f"--actions is {actions!r}, expected {', '.join(known)}")
    return known[actions]


def _pairs(given: list[str]) -> dict[str, str]:
    pairs = {}
    for one in given:
        key, equals, topic = one.partition("=")
        if not equals or not key or not topic:
            raise typer.BadParameter(f"--topic {one!r} is not KEY=TOPIC")
        pairs[key] = topic
    return pairs
