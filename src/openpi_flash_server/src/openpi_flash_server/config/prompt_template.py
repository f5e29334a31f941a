"""Prompt templates: text with named places, such as `{task}. Subtask: {subtask}`."""

from __future__ import annotations

import string
from collections.abc import Set

TASK_ALONE = "{task}"
"""As the action model's template: the planner's subtask is told, and actions do not follow it."""


def check_template(template: str, places: Set[str]) -> str:
    """Returns `template` if it holds exactly these places, each as a bare `{name}`.

    Anything else would fail, or silently drop the prompt, on every request.

    Raises:
        ValueError: the template does not; says why.
    """
    wanted = " and ".join(f"{{{place}}}" for place in sorted(places, reverse=True))
    try:
        pieces = list(string.Formatter().parse(template))
    except ValueError as error:
        reason = str(error).lower()
        raise ValueError(f"{template!r} is no template: {reason}, it must hold {wanted}") from None
    found = set()
    for _, name, spec, conversion in pieces:
        if name is None:
            continue
        if name not in places:
            raise ValueError(f"{template!r} has an unknown place {{{name}}}, it must hold {wanted}")
        if spec or conversion:
            raise ValueError(f"{template!r} formats {{{name}}}, write {{{name}}} alone")
        found.add(name)
    missing = places - found
    if missing:
        names = " and ".join(f"{{{place}}}" for place in sorted(missing, reverse=True))
        raise ValueError(f"{template!r} lacks {names}")
    return template


def planner_template(template: str) -> str:
    """Returns a template of the planner's prompt; raises as `check_template`."""
    return check_template(template, {"task"})


def action_template(template: str) -> str:
    """Returns a template of the action model's prompt; raises as `check_template`."""
    if template == TASK_ALONE:
        return template
    return check_template(template, {"task", "subtask"})


def fill_template(template: str, **values: str) -> str:
    """Puts the values into a checked template; braces inside a value are ordinary characters."""
    return template.format(**values)
