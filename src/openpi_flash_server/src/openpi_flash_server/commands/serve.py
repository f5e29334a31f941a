"""`openpi-flash serve`."""

from __future__ import annotations

import contextlib
import enum
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from openpi_flash_server.commands.config_option import DEFAULT_PATH, PATH_VARIABLE, read_config

if TYPE_CHECKING:
    from openpi_flash_server.config.file import Flag


class Environment(enum.StrEnum):
    """The robots and simulators for which openpi's server has a default policy."""

    ALOHA = "aloha"
    ALOHA_SIM = "aloha_sim"
    DROID = "droid"
    LIBERO = "libero"


class LogLevel(enum.StrEnum):
    """How much is logged; the values of the configuration's `log_level`."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def serve(
    *,
    config: Annotated[
        Path | None,
        typer.Option(
            help=f"The JSON configuration [default: {DEFAULT_PATH}, if no policy is named].",
            envvar=PATH_VARIABLE,
            show_default=False,
        ),
    ] = None,
    env: Annotated[
        Environment | None,
        typer.Option(help="Serve openpi's policy for this robot.", case_sensitive=False),
    ] = None,
    policy_config: Annotated[
        str | None,
        typer.Option(help="Serve a policy by the name of its config, or as python:MODULE:NAME."),
    ] = None,
    policy_dir: Annotated[
        str | None,
        typer.Option(help="Its checkpoint, a directory or a URL; else the released one."),
    ] = None,
    default_prompt: Annotated[
        str | None, typer.Option(help="The task for a request that names none.")
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(help="The address to listen on; 0.0.0.0 or :: lets robots elsewhere in."),
    ] = None,
    port: Annotated[int | None, typer.Option(help="The WebSocket port of the policy.")] = None,
    quic_port: Annotated[int | None, typer.Option(help="The QUIC port of the policy.")] = None,
    api_key: Annotated[
        list[str] | None,
        typer.Option(
            help="An API key that clients may give; repeatable. `ps` shows it: prefer a file.",
            metavar="<key>",
        ),
    ] = None,
    api_key_file: Annotated[
        Path | None, typer.Option(help="A file with such keys, one a line.", metavar="<path>")
    ] = None,
    log_level: Annotated[
        LogLevel | None,
        typer.Option(help="The least severe events to log [default: info].", show_default=False),
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option(help="Record requests and answers in this directory.", metavar="<path>"),
    ] = None,
    robot_file: Annotated[
        list[Path] | None,
        typer.Option(help="A file that adds robots; may be given again.", metavar="<path>"),
    ] = None,
) -> None:
    """Serve models until SIGTERM or Ctrl-C: those of a configuration, or one policy by its name.

    A policy that is named here takes the place of the configuration's action slot, if there is one.
    """
    files = [str(file) for file in robot_file or []]
    flags = _policy_flags(env, policy_config, policy_dir, files)
    if config is None and not flags:
        config = DEFAULT_PATH
        if not config.exists():
            typer.echo(
                f"error: {config}: no such file; name one with --config, or a policy with --env or "
                "--policy-config",
                err=True,
            )
            raise typer.Exit(2)
    from openpi_flash_server.config.file import Flag, misspelt_variables

    for path, name, value in (
        (("action", "default_prompt"), "--default-prompt", default_prompt),
        (("host",), "--host", host),
        (("action_transport", "websocket_port"), "--port", port),
        (("action_transport", "quic_port"), "--quic-port", quic_port),
        (("api_keys",), "--api-key", api_key or None),
        (("api_key_file",), "--api-key-file", str(api_key_file) if api_key_file else None),
        (("log_level",), "--log-level", str(log_level) if log_level else None),
        (("recording", "directory"), "--record", str(record) if record else None),
        (("robot_files",), "--robot-file", files or None),
    ):
        if value is not None:
            flags.append(Flag(path, name, value))
    settings = read_config(config, flags)
    # a policy named on the command line is not open to the network by default
    keeps_to_itself = config is None and not settings.keys and settings.is_default("host")
    if keeps_to_itself:
        settings = read_config(config, [*flags, Flag(("host",), flags[0].name, "127.0.0.1")])
    from openpi_flash_server.logs import log_output
    from openpi_flash_server.logs.events import EventLogger
    from openpi_flash_server.serving import process

    if config is not None:
        # a policy of the user's own may lie beside the file that names it
        sys.path.append(str(config.absolute().parent))
    output = log_output.configure(settings.log_level, form=settings.log_format)
    log = EventLogger(__name__)
    if config is not None:
        log.info("configuration read", file=config, mode=settings.mode)
    for variable, likely in misspelt_variables(os.environ):
        log.warning(f"{variable} sets nothing, did you mean {likely}?")
    if api_key:
        log.warning(
            "every user of this computer can read --api-key in the list of processes; use "
            "--api-key-file or OPENPI_API_KEY"
        )
    if keeps_to_itself:
        log.warning(
            "LISTENING ON THIS COMPUTER ONLY: neither a host nor an api key was given; to let "
            "robots in, add --host 0.0.0.0 and --api-key-file FILE"
        )
    raise typer.Exit(process.serve(settings, output))


def _policy_flags(
    env: Environment | None, name: str | None, directory: str | None, robot_files: list[str]
) -> list[Flag]:
    """The action slot that the command line names; empty if it names none."""
    if env is None and name is None:
        if directory is not None:
            _usage("--policy-dir needs --policy-config: which config is it for?")
        return []
    if env is not None and name is not None:
        _usage("--env and --policy-config name two policies, give one of them")
    from openpi_flash_models.config.named_configs import get_config
    from openpi_flash_models.config.robot_file import add_robot_file
    from openpi_flash_models.config.table import ENVIRONMENTS
    from openpi_flash_server.config.file import Flag
    from openpi_flash_server.config.policy_name import names_inference_config

    for file in robot_files:
        with _naming("--robot-file"):
            add_robot_file(Path(file))
    flag = "--policy-config" if env is None else "--env"
    if name is not None and not names_inference_config(name):
        flags = [Flag(("action", "model_config_name"), flag, name)]
        if directory is not None:
            flags.append(Flag(("action", "checkpoint_dir"), "--policy-dir", directory))
        return flags
    with _naming(flag):
        found = get_config(ENVIRONMENTS[env.value] if env is not None else str(name))
    if directory is None and found.checkpoint is None:
        _usage(f"there are no released weights of {found.name}, name yours with --policy-dir")
    return [
        Flag(("action", "model_config_name"), flag, found.name),
        Flag(("action", "checkpoint_dir"), flag, directory or found.checkpoint),
    ]


@contextlib.contextmanager
def _naming(flag: str) -> Iterator[None]:
    """An unknown name or file ends the command with a line that names its flag."""
    from openpi_flash_models.errors import InferenceConfigError

    try:
        yield
    except InferenceConfigError as error:
        _usage(f"{flag}: {error}")


def _usage(problem: str) -> NoReturn:
    typer.echo(f"error: {problem}", err=True)
    raise typer.Exit(2)
