"""Checks of tasks. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from openpi_flash_training.inspection.finding import Finding, shortened

LEAST_SHARE = 0.2
"""Of the most frequent task's frames."""


def frames_by_task(prompts: Sequence[Sequence[str]]) -> Mapping[str, int]:
    """Number of frames of each task, the most frequent first."""
    counts: Counter[str] = Counter()
    for episode in prompts:
        counts.update(episode)
    return dict(counts.most_common())


def check_prompts(prompts: Sequence[Sequence[str]]) -> Iterator[Finding]:
    """Tasks that are empty, rare, or differ only in how they are written."""
    empty = [i for i, episode in enumerate(prompts) if any(not word.strip() for word in episode)]
    if empty:
        yield Finding("error", "prompts", f"the task is empty in episodes {shortened(empty)}")
    counts = frames_by_task(prompts)
    if not counts:
        return
    most = max(counts.values())
    rare = [task for task, count in counts.items() if count < LEAST_SHARE * most]
    if rare:
        said = ", ".join(f"{task!r} ({counts[task]} frames)" for task in rare[:5])
        yield Finding(
            "warning",
            "prompts",
            f"rare beside the most frequent task ({most} frames): {said}: record more of them",
        )
    spellings: dict[str, list[str]] = {}
    for task in counts:
        spellings.setdefault(" ".join(task.lower().strip(" .").split()), []).append(task)
    for tasks in spellings.values():
        if len(tasks) > 1:
            said = ", ".join(map(repr, tasks))
            yield Finding("warning", "prompts", f"differ only in how they are written: {said}")
