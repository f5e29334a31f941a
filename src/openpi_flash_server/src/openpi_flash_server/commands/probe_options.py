"""The options of what `ping`, `test` and `load` send to a server."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

PROMPT = "pick up the cup"
"""The task that is sent, unless another one is given."""


class Mode(enum.StrEnum):
    """What a server with a planner is asked for."""

    DEFAULT = "default"
    ACTION_ONLY = "action_only"
    SUBTASK_ONLY = "subtask_only"


RequestMode = Annotated[
    Mode | None, typer.Option("--mode", help="What to ask a server with a planner for.")
]
Prompt = Annotated[str, typer.Option("--prompt", help="The task that is sent.")]
Robot = Annotated[
    str | None,
    typer.Option(
        "--robot",
        "--embodiment",
        help="Whose observations to send; else what the server says that it reads.",
    ),
]
RobotFiles = Annotated[
    list[Path] | None,
    typer.Option(
        "--robot-file", help="A file that adds robots; may be given again.", metavar="<path>"
    ),
]
CallTimeout = Annotated[float, typer.Option("--timeout", min=0.001, help="Seconds for each call.")]
Wait = Annotated[
    float, typer.Option("--wait", min=0, help="Seconds to wait for a server that is not ready.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def add_robot_files(files: list[Path] | None) -> None:
    """Makes the robots of these files known; ends the command if one cannot be used."""
    from openpi_flash_server.commands.failure import one_line_errors

    with one_line_errors():
        from openpi_flash_models.config.robot_file import add_robot_file

        for file in files or []:
            add_robot_file(file)
