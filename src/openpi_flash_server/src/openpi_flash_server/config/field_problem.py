"""How a check names the field that is wrong."""

from __future__ import annotations

from collections.abc import Callable

from pydantic_core import PydanticCustomError


def problem_at(field: str, message: str) -> PydanticCustomError:
    """A problem of one field that a check of the whole object found."""
    return PydanticCustomError("at_field", "{message}", {"field": field, "message": message})


def look_up(registry: Callable[[str], object], name: str) -> None:
    """Raises a ValueError, as pydantic needs, if the registry does not know the name."""
    try:
        registry(name)
    except (KeyError, ValueError) as error:
        raise ValueError(str(error.args[0]) if error.args else str(error)) from None
