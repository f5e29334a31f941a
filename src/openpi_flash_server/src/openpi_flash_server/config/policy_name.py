"""What `action.model_config_name` may name besides an inference config. Pure."""

from __future__ import annotations

from dataclasses import dataclass

NULL_MODEL = "null"
"""A policy without a model, for benchmarks and bring-up."""

LEROBOT = "lerobot"
"""A policy of LeRobot, from its own checkpoint."""

_PYTHON = "python:"


@dataclass(frozen=True)
class PythonName:
    """A policy in a user's Python module.

    Attributes:
        module: to import, such as `my_pkg.policies`.
        attribute: of the module: makes the policy, or is one; dots step into it.
    """

    module: str
    attribute: str

    def __str__(self) -> str:
        return f"{_PYTHON}{self.module}:{self.attribute}"


def python_name(name: str) -> PythonName | None:
    """The Python policy that `name` means; None if it means something else.

    Raises:
        ValueError: it begins with `python:`, and is not `python:MODULE:NAME`.
    """
    if not name.startswith(_PYTHON):
        return None
    module, _, attribute = name.removeprefix(_PYTHON).partition(":")
    if not all(part.isidentifier() for part in (*module.split("."), *attribute.split("."))):
        raise ValueError(
            f"must be python:MODULE:NAME, such as python:my_pkg.policies:make, got {name!r}"
        )
    return PythonName(module, attribute)


def names_inference_config(name: str) -> bool:
    """Whether `name` is for one of our own models, and so must be a known inference config."""
    return name not in (NULL_MODEL, LEROBOT) and not name.startswith(_PYTHON)
