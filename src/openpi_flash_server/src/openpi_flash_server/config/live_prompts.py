"""The prompt settings that an operator may change while the server runs.

A change replaces all of them at once, and every request takes one snapshot: no answer mixes an old
template with a new one. The version names the texts, not the change: two servers with equal
prompts have equal versions.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import threading
from dataclasses import dataclass

from openpi_flash_server.config.prompt_template import action_template, planner_template


@dataclass(frozen=True, slots=True)
class Prompts:
    """One state of the prompt settings.

    Attributes:
        default_prompt: the task for a request that names none; None refuses such requests, unless
            the model's own config has one.
        generation_prompt_format: the planner's prompt; holds {task}.
        action_prompt_template: the action model's prompt beside a planner; holds {task} and
            {subtask}, or is {task} alone.
    """

    default_prompt: str | None = None
    generation_prompt_format: str = "Task: {task}. Subtask: "
    action_prompt_template: str = "{task}. Subtask: {subtask}"

    def __post_init__(self) -> None:
        planner_template(self.generation_prompt_format)
        action_template(self.action_prompt_template)

    @property
    def version(self) -> str:
        """12 hex digits of the SHA-256 over the three texts."""
        texts = json.dumps(dataclasses.astuple(self)).encode()
        return hashlib.sha256(texts).hexdigest()[:12]


DEFAULT_PROMPTS = Prompts()


class LivePrompts:
    """The prompt settings that are in force. May be read and changed from any thread.

    Args:
        prompts: at the start.
    """

    def __init__(self, prompts: Prompts = DEFAULT_PROMPTS) -> None:
        self._current = (prompts, prompts.version)
        self._changing = threading.Lock()

    @property
    def current(self) -> Prompts:
        """The settings in force."""
        return self._current[0]

    @property
    def version(self) -> str:
        """Their version."""
        return self._current[1]

    @property
    def snapshot(self) -> tuple[Prompts, str]:
        """Settings and version that belong together."""
        return self._current

    def change(self, **texts: str) -> Prompts:
        """Replaces some of the texts; returns the new settings.

        Raises:
            ValueError: a template is broken; nothing has changed.
        """
        with self._changing:
            prompts = dataclasses.replace(self._current[0], **texts)
            self._current = (prompts, prompts.version)
        return prompts
