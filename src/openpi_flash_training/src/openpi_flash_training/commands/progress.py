"""A bar that counts, on a terminal; nothing elsewhere."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def frame_progress(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show how far something is.

    Args:
        what: is being done.
        total: number of frames or episodes; None: not known yet.

    Yields:
        A function to call with the number that is done.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    console = Console(stderr=True)
    with Progress(
        what,
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bar:
        shown = bar.add_task("", total=total)
        yield lambda done: bar.update(shown, completed=done)
