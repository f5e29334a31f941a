"""The task of a request: reads ``prompt`` alike for policies, planners and servers.

A prompt is text, UTF-8 bytes (as openpi's DROID example sends) or an array of one of them (as
openpi's transforms make of it). A blank prompt counts as missing: the next default is taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from openpi_flash_models.errors import ObservationError

KEY = "prompt"


def task_of(observation: Mapping[str, Any], *defaults: str | None) -> str:
    """The task: the request's, else the first default that is not blank.

    Args:
        observation: a request.
        defaults: of the server and the config, in order.

    Raises:
        ObservationError: the prompt is no text, or there is none and no default either.
    """
    task = requested_task(observation)
    for candidate in (task, *defaults):
        if candidate is not None and candidate.strip():
            return candidate
    state = "empty" if observation.get(KEY) is not None else "missing"
    raise ObservationError(
        KEY, f"{state}, and the server has no default_prompt; send the task in words"
    )


def requested_task(observation: Mapping[str, Any]) -> str | None:
    """The task that a request names; None if it names none, or a blank one.

    Raises:
        ObservationError: the prompt is no text.
    """
    prompt = observation.get(KEY)
    if isinstance(prompt, np.ndarray) and prompt.size == 1:
        prompt = prompt.item()
    if isinstance(prompt, bytes | bytearray):
        try:
            prompt = prompt.decode()
        except UnicodeDecodeError as error:
            raise ObservationError(
                KEY, f"expected text in UTF-8, got bytes with {error.reason} at {error.start}"
            ) from error
    if prompt is None:
        return None
    if isinstance(prompt, str):
        return prompt if prompt.strip() else None
    if isinstance(prompt, np.ndarray):
        found = f"an array {prompt.dtype}{list(prompt.shape)}"
    else:
        found = type(prompt).__name__
    raise ObservationError(KEY, f"expected text, got {found}")
