"""`openpi-flash record`: episodes of a robot in plain Python, by keys."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from openpi_flash_robot.run.runner import PolicyRunner

KEYS = (
    "Enter starts and stops an episode; y: it succeeded, n: it failed, d: discard it; "
    "p TEXT: another prompt, h: hold, r: reset, q: quit"
)


def record(
    robot: Annotated[
        str,
        typer.Argument(
            help="File and class or function that makes the robot, such as my_arm.py:MyArm.",
            metavar="FILE.py:NAME",
            show_default=False,
        ),
    ],
    *,
    settings: Annotated[Path, typer.Option(help="The robot's parameter file.", show_default=False)],
    server: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Instead of the file's.")
    ] = None,
    prompt: Annotated[str | None, typer.Option(help="Instead of the file's.")] = None,
    folder: Annotated[
        Path | None, typer.Option(help="Where the episodes go; else as record_folder says.")
    ] = None,
    move: Annotated[
        bool, typer.Option("--move", help="Let the policy move the robot (dry_run: false).")
    ] = False,
) -> None:
    """Run a policy on a robot in plain Python, and record episodes for training.

    Orders are lines on the standard input: Enter starts and stops an episode, y and n say whether
    it succeeded, d discards it, p TEXT changes the prompt, h holds, r resets, q quits. Each
    episode is one MCAP file.
    """
    from openpi_flash_robot.run.runner import PolicyRunner
    from openpi_flash_robot.run.settings_file import load_settings
    from openpi_flash_robot.settings.parameter_kinds import ParameterError

    changes: dict[str, Any] = {"server": server, "prompt": prompt}
    changes["record_folder"] = None if folder is None else str(folder)
    changes["dry_run"] = False if move else None
    if server is not None:
        changes["port"] = 0
    given = {name: value for name, value in changes.items() if value is not None}
    try:
        loaded = load_settings(settings, **given)
        made = _robot(robot)
        runner = PolicyRunner(made, loaded)
    except (ParameterError, _NoRobotError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    typer.echo(KEYS)
    with runner:
        follow_orders(runner, sys.stdin)


def follow_orders(runner: PolicyRunner, lines: Iterable[str]) -> None:
    """Give a runner the orders of a person until `q`, the end, or Ctrl-C.

    Args:
        runner: started.
        lines: the orders.
    """
    from openpi_flash_robot.episodes.folder import EpisodeError

    try:
        for line in lines:
            order = line.strip()
            if order == "q":
                return
            try:
                typer.echo(_follow(runner, order))
            except EpisodeError as error:
                typer.echo(str(error), err=True)
    except KeyboardInterrupt:
        return


def _follow(runner: PolicyRunner, order: str) -> str:
    episodes = runner.episodes
    if not order:
        return episodes.stop() if episodes.is_recording else f"recording {episodes.start()}"
    if order in ("y", "n"):
        return episodes.mark(success=order == "y")
    if order == "d":
        return episodes.discard()
    if order == "h":
        runner.hold()
    elif order == "r":
        runner.reset()
    elif order.startswith("p "):
        runner.set_prompt(order[2:].strip())
    else:
        return KEYS
    return runner.status.line


class _NoRobotError(ValueError):
    """The robot cannot be made. The message names the file and what to do."""


def _robot(named: str) -> Any:
    """The robot of `FILE.py:NAME`."""
    file, colon, name = named.rpartition(":")
    if not colon or not Path(file).is_file():
        raise _NoRobotError(f"{named!r} names no file; write FILE.py:NAME, such as my_arm.py:MyArm")
    spec = importlib.util.spec_from_file_location(Path(file).stem, file)
    if spec is None or spec.loader is None:
        raise _NoRobotError(f"{file} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    make = getattr(module, name, None)
    if not callable(make):
        raise _NoRobotError(f"{file} has no class or function {name}")
    return make()
