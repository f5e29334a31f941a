"""Where the API key comes from: a file, the environment or the parameter. No message shows it."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from openpi_flash_robot.link.transport import check_api_key
from openpi_flash_robot.settings.node_settings import LinkSettings
from openpi_flash_robot.settings.parameter_kinds import ParameterError

ENVIRONMENT_VARIABLE = "OPENPI_FLASH_API_KEY"
MAX_FILE_BYTES = 4096
"""Four times the longest key: a longer file is something else."""


@dataclass(frozen=True)
class ApiKey:
    """The key to send, and what to tell people about it.

    Attributes:
        text: printable ASCII; empty for none.
        source: where it comes from, for diagnostics.
        warnings: what a person should know; never with the key.
    """

    text: str = field(repr=False)
    source: str
    warnings: tuple[str, ...] = ()


def find_api_key(link: LinkSettings, environment: Mapping[str, str]) -> ApiKey:
    """The key of the file `api_key_file`, of `OPENPI_FLASH_API_KEY`, or of the parameter `api_key`.

    The first that is given is used; a file is read anew by every call.

    Raises:
        ParameterError: the file cannot be read, or what it or another source holds is no key.
    """
    warnings: list[str] = []
    if link.api_key:
        warnings.append(
            "parameter api_key is set: other users of this computer can read command lines, and "
            f"often parameter files; use api_key_file or {ENVIRONMENT_VARIABLE} instead"
        )
    if link.api_key_file:
        path = Path(link.api_key_file).expanduser()
        text, source = _read(path, warnings), f"api_key_file {path}"
    elif environment.get(ENVIRONMENT_VARIABLE):
        text, source = environment[ENVIRONMENT_VARIABLE], ENVIRONMENT_VARIABLE
    elif link.api_key:
        text, source = link.api_key, "parameter api_key"
    else:
        return ApiKey("", "none")
    if link.api_key and text != link.api_key:
        warnings.append(f"parameter api_key is not used: {source} overrides it")
    try:
        check_api_key(text)
    except ValueError as error:
        raise ParameterError(f"{source}: {error}") from None
    return ApiKey(text, source, tuple(warnings))


def _read(path: Path, warnings: list[str]) -> str:
    """The file's text without the line feeds at its end."""
    what = f"api_key_file {path}"
    try:
        # a fifo without a writer would block for ever
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        raise ParameterError(f"{what}: {_reason(error)}; write the key into it") from None
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise ParameterError(f"{what} is {_kind(status.st_mode)}, expected a regular file")
        content = os.read(handle, MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ParameterError(f"{what}: {_reason(error)}") from None
    finally:
        os.close(handle)
    if len(content) > MAX_FILE_BYTES:
        raise ParameterError(
            f"{what} has more than {MAX_FILE_BYTES} bytes, expected the key and nothing else"
        )
    # latin-1 maps every byte to a character: what is not ASCII is refused as part of the key
    text = content.decode("latin-1").rstrip("\r\n")
    if not text:
        raise ParameterError(f"{what} is empty, expected the key")
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077:
        warnings.append(
            f"{what} has mode {mode:04o}: other users of this computer have access to it; "
            f"run `chmod 600 {path}`"
        )
    return text


def _reason(error: OSError | ValueError) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


def _kind(mode: int) -> str:
    for check, name in (
        (stat.S_ISDIR, "a directory"),
        (stat.S_ISFIFO, "a fifo"),
        (stat.S_ISSOCK, "a socket"),
    ):
        if check(mode):
            return name
    return "a device"
