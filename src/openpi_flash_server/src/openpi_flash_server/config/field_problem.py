"""How a check of a whole object names the field that is wrong."""

from __future__ import annotations

from pydantic_core import PydanticCustomError


def problem_at(field: str, message: str) -> PydanticCustomError:
    """A problem of one field that a check of the whole object found."""
    return PydanticCustomError("at_field", "{message}", {"field": field, "message": message})
