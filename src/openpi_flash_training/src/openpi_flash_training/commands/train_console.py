"""What `openpi-flash train` shows: the plan, a progress bar, the metrics, how to go on."""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType, TracebackType

import jax
from rich.console import Console as Terminal
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from openpi_flash_training.dataset.reader import Dataset
from openpi_flash_training.inspection.lint import lint
from openpi_flash_training.train.parameter_table import memory, parameter_rows
from openpi_flash_training.train.plan import Plan
from openpi_flash_training.train.settings import TrainSettings

_RATE_OVER = 20.0
"""Seconds that the shown rate is the mean of."""
_NUMBERS = (3, 4)
"""Columns of the table of parameters that are aligned on the right."""


class Console:
    """Listens to a run and draws; only the first process draws.

    Args:
        settings: of the run.
    """

    def __init__(self, settings: TrainSettings) -> None:
        self._settings = settings
        self._terminal = Terminal(highlight=False, soft_wrap=True, quiet=jax.process_index() != 0)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=False),
            console=self._terminal,
            speed_estimate_period=_RATE_OVER,
            # lines, not a bar, where nobody watches
            disable=not self._terminal.is_terminal,
        )
        self._task: TaskID | None = None
        self._marks: list[tuple[float, int]] = []

    def __enter__(self) -> Console:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def started(self, first: int, plan: Plan) -> None:
        """See ``run.Listener``."""
        assembled, run = plan.assembled, self._settings.run
        samples = assembled.samples
        episodes = len(samples.dataset.episodes)
        self._terminal.print(
            f"{samples.dataset.folder}: {len(samples)} samples in {episodes} episodes; "
            f"{run.batch_size} a step are {run.batch_size * run.steps / len(samples):.3g} passes "
            f"in {run.steps} steps"
        )
        device = jax.devices()[0]
        self._terminal.print(
            f"{assembled.shape.kind} on {jax.device_count()} x {device.device_kind}, layers in "
            f"{assembled.loss.dtype}; cameras: {', '.join(assembled.loss.cameras)}"
        )
        if first:
            self._terminal.print(f"{run.output}: going on after {first} of {run.steps} steps")
        for note in notes(self._settings):
            self._terminal.print(f"note: {note}")
        if not first:
            _print_findings(self._terminal, samples.dataset)
        self._progress.start()
        self._task = self._progress.add_task("compiling", total=run.steps, completed=first, rate="")

    def stepped(self, step: int) -> None:
        """See ``run.Listener``."""
        if self._task is None:
            return
        now = time.monotonic()
        self._marks.append((now, step))
        while now - self._marks[0][0] > _RATE_OVER and len(self._marks) > 2:
            self._marks.pop(0)
        self._progress.update(
            self._task, description="training", completed=step + 1, rate=self._rate()
        )

    def logged(self, step: int, metrics: Mapping[str, float]) -> None:
        """See ``run.Listener``."""
        shown = "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())
        rate = self._rate()
        self._terminal.print(f"step {step + 1}: {shown}" + (f"  ({rate})" if rate else ""))

    def saving(self, step: int, place: Path) -> None:
        """See ``run.Listener``."""
        del step  # the place's name
        self._terminal.print(f"saving {place}")

    def _rate(self) -> str:
        """Samples a second over the last seconds; the first step, which compiles, left out."""
        (before, first), (now, last) = self._marks[0], self._marks[-1]
        if last == first:
            return ""
        return f"{(last - first) * self._settings.run.batch_size / (now - before):.3g} samples/s"


def notes(settings: TrainSettings) -> list[str]:
    """Settings that are legal and probably not meant."""
    found = []
    rate = settings.optimizer
    if rate.schedule == "cosine" and rate.decay_steps > 2 * settings.run.steps:
        found.append(
            f"the learning rate falls over {rate.decay_steps} steps, the run has "
            f"{settings.run.steps}: set optimizer.decay_steps to the run's steps"
        )
    if rate.warmup_steps >= settings.run.steps and rate.schedule != "constant":
        found.append(
            f"the learning rate rises over {rate.warmup_steps} steps, the run has "
            f"{settings.run.steps}: set optimizer.warmup_steps"
        )
    if rate.ema_decay is not None and settings.model.lora is not None:
        found.append("a running mean (optimizer.ema_decay) with adapters keeps all weights twice")
    return found


def print_plan(plan: Plan) -> None:
    """Every parameter, and the memory of a device."""
    terminal = Terminal(highlight=False, soft_wrap=True)
    rows = parameter_rows(plan.state, plan.shardings, plan.recipe.mask)
    table = [("parameter", "shape", "type", "numbers", "on a device", "")]
    table += [
        (
            row.name,
            " x ".join(map(str, row.shape)),
            row.dtype,
            f"{row.count:,}",
            size(row.device_bytes),
            "trained" if row.trained else "frozen",
        )
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for cells in table:
        padded = [
            cell.rjust(width) if place in _NUMBERS else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        terminal.print("  ".join(padded).rstrip())
    trained = sum(row.count for row in rows if row.trained)
    total = sum(row.count for row in rows)
    terminal.print(f"{total:,} parameters, {trained:,} trained, {total - trained:,} frozen")
    held = memory(plan.state, plan.shardings, plan.working_bytes())
    working = "not known" if held.working is None else size(held.working)
    terminal.print(
        f"memory of each of {plan.mesh.size} devices: {size(held.total)} = parameters "
        f"{size(held.parameters)} + optimiser {size(held.optimizer)} + running mean "
        f"{size(held.mean)} + a step's gradients, activations and batch {working}"
    )
    for note in notes(plan.assembled.settings):
        terminal.print(f"note: {note}")
    _print_findings(terminal, plan.assembled.samples.dataset)


def _print_findings(terminal: Terminal, dataset: Dataset) -> None:
    """What `openpi-flash dataset lint` says of the numbers; looking at images takes too long."""
    for finding in lint(dataset, images=False):
        terminal.print(str(finding))


def size(count: int) -> str:
    """Bytes in words."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.3g} {unit}"
    return f"{count} B"


@contextlib.contextmanager
def stop_on_signals() -> Iterator[Callable[[], bool]]:
    """Make Ctrl-C and SIGTERM a wish to stop after the step; the second Ctrl-C ends at once."""
    wished = threading.Event()

    def wish(number: int, frame: FrameType | None) -> None:
        del frame
        if wished.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        wished.set()
        sys.stderr.write("\nstopping after this step, then saving (Ctrl-C again: at once)\n")

    before = {number: signal.signal(number, wish) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield wished.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def quiet_libraries() -> None:
    """Leave out what Orbax, JAX and Grain tell about their insides; our errors say what failed."""
    for name in ("absl", "jax", "orbax", "grain"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
