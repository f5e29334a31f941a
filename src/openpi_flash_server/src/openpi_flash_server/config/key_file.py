"""The field `api_key_file`, which clients and operators have."""

from __future__ import annotations

from openpi_flash_server.config.field_problem import problem_at
from openpi_flash_server.config.files import read_keys, user_path


def keys_of_file(api_key_file: str | None) -> tuple[str, ...]:
    """The keys in the file that the field names; none if it names no file.

    Raises:
        PydanticCustomError: the file cannot be used.
    """
    if api_key_file is None:
        return ()
    try:
        return read_keys(user_path(api_key_file))
    except ValueError as error:
        raise problem_at("api_key_file", str(error)) from None
