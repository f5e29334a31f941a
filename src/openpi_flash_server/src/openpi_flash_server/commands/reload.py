"""`openpi-flash reload`: serves another checkpoint without a restart."""

from __future__ import annotations

import enum
import http.client
import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from openpi_flash_server.commands.server_link import EXIT_FAILED, end_with_usage

PORT = 8001


class SlotName(enum.StrEnum):
    """The slots whose model can be replaced."""

    ACTION = "action"
    PLANNER = "planner"


class Memory(enum.StrEnum):
    """Whether the device has room for two checkpoints at a time."""

    BESIDE = "beside"
    AFTER = "after"


def reload(
    host: Annotated[
        str,
        typer.Argument(
            help="The server's admin port, as in localhost or 10.0.0.5:8001.", show_default=False
        ),
    ] = f"127.0.0.1:{PORT}",
    *,
    slot: Annotated[SlotName, typer.Option(help="Whose model is replaced.")] = SlotName.ACTION,
    checkpoint: Annotated[
        str | None,
        typer.Option(
            help="A directory on the server, or a URL; else the one in force is read again.",
            metavar="<dir>",
        ),
    ] = None,
    memory: Annotated[
        Memory | None,
        typer.Option(
            help="beside loads it while the former serves; after frees the former's memory first "
            "[default: as the server is configured].",
            show_default=False,
        ),
    ] = None,
    unload: Annotated[
        bool, typer.Option("--unload", help="Free the model's memory and serve nothing.")
    ] = False,
    admin_key_file: Annotated[
        Path | None, typer.Option(help="A file that holds the admin key.", metavar="<path>")
    ] = None,
) -> None:
    """Let a slot of a running server answer with another checkpoint.

    Returns when it answers, which may take minutes; if the other checkpoint cannot serve, the
    former one goes on. The admin key is read from --admin-key-file or OPENPI_ADMIN__API_KEY.
    """
    if unload and (checkpoint is not None or memory is not None):
        end_with_usage("--unload goes with neither --checkpoint nor --memory")
    wanted = {"checkpoint_dir": checkpoint, "memory": memory}
    body = {key: value for key, value in wanted.items() if value is not None}
    verb = "unload" if unload else "reload"
    status, answer = _ask(host, f"/slots/{slot}/{verb}", body, _key(admin_key_file))
    if status != http.HTTPStatus.OK:
        detail = answer.get("detail", "no reason given")
        typer.echo(f"error: {detail if isinstance(detail, str) else json.dumps(detail)}", err=True)
        raise typer.Exit(EXIT_FAILED)
    if unload:
        typer.echo("unloaded")
        return
    found = answer.get("checkpoint") or {}
    names = (answer.get("model"), found.get("name"), found.get("digest"))
    typer.echo("serving " + " ".join(str(name) for name in names if name))


def _ask(host: str, path: str, body: dict[str, Any], key: str | None) -> tuple[int, dict[str, Any]]:
    headers = {"Content-Type": "application/json"}
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    try:
        connection = http.client.HTTPConnection(host if _names_port(host) else f"{host}:{PORT}")
    except http.client.InvalidURL as error:
        end_with_usage(f"HOST {host}: {error}")
    try:
        connection.request("POST", path, json.dumps(body), headers)
        response = connection.getresponse()
        text = response.read().decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or str(error)
        typer.echo(f"error: {host}: {reason.lower()}; is this the admin port?", err=True)
        raise typer.Exit(EXIT_FAILED) from None
    finally:
        connection.close()
    try:
        answer = json.loads(text)
    except ValueError:
        answer = {"detail": text.strip()[:_LONGEST_REASON]}
    return response.status, answer


def _names_port(host: str) -> bool:
    return host.rpartition("]")[2].count(":") == 1


def _key(file: Path | None) -> str | None:
    from openpi_flash_server.config.files import read_keys, user_path

    if file is None:
        return os.environ.get("OPENPI_ADMIN__API_KEY") or None
    try:
        return read_keys(user_path(str(file)))[0]
    except ValueError as error:
        end_with_usage(f"--admin-key-file: {error}")


_LONGEST_REASON = 200
"""Characters of an answer that is no JSON."""
