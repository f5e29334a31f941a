"""Prompt formats, exactly those of the models' training (``openpi/models/tokenizer.py``)."""

from __future__ import annotations

import string

import numpy as np


def clean_task(prompt: str) -> str:
    """A task as pi0 and pi0.5 read it; letters keep their case."""
    return prompt.strip().replace("_", " ").replace("\n", " ")


def action_prompt(prompt: str, state: np.ndarray | None) -> str:
    """The text before the actions.

    Args:
        prompt: the task.
        state: normalised robot state [S], written as bin numbers; None for models that were
            trained without it, whose prompt is the task and a newline.
    """
    task = clean_task(prompt)
    if state is None:
        return task
    bins = " ".join(map(str, state_bins(state)))
    return f"Task: {task}, State: {bins};\nAction: "


def fast_prompt(prompt: str, state: np.ndarray) -> str:
    """The text before the actions of pi0-FAST.

    Args:
        prompt: the task; lower-cased, its newlines are kept.
        state: normalised robot state [S].
    """
    task = prompt.lower().strip().replace("_", " ")
    return f"Task: {task}, State: {' '.join(map(str, state_bins(state)))};\n"


def state_bins(state: np.ndarray) -> np.ndarray:
    """256 bins over [-1, 1]; above is 255, below is -1 (openpi writes "-1", so do we)."""
    return np.digitize(state, bins=np.linspace(-1, 1, 257)[:-1]) - 1


def planner_prompt(prompt: str, template: str) -> str:
    """The text before a subtask.

    Args:
        prompt: the task; lower-cased, and rid of one punctuation mark at its end.
        template: holds ``{task}``.
    """
    task = prompt.lower().strip().replace("_", " ").replace("\n", " ")
    if task and task[-1] in string.punctuation:
        task = task[:-1]
    return template.format(task=task)
