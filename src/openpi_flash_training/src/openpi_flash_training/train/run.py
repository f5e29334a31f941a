"""The training loop: reads batches, updates, logs, saves; goes on where a run was interrupted."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import jax
import numpy as np
from jax.experimental import multihost_utils

from openpi_flash_models.files import expand_home
from openpi_flash_training.train.assemble import Assembled, assemble, settings_text
from openpi_flash_training.train.checkpoints import (
    SETTINGS,
    CheckpointStore,
    checkpoint_bytes,
    newest_whole,
    prepare_directory,
)
from openpi_flash_training.train.loader import Loader, LoaderSettings
from openpi_flash_training.train.mesh import check_batch, make_mesh, put_batch
from openpi_flash_training.train.metric_writers import (
    JsonLines,
    MetricWriter,
    TensorBoard,
    WeightsAndBiases,
    check_installed,
)
from openpi_flash_training.train.plan import Plan, as_batch, make_plan
from openpi_flash_training.train.problem import SettingsError, TrainingError
from openpi_flash_training.train.settings import RESUMABLE, TrainSettings
from openpi_flash_training.train.settings_file import as_tree, differences, read_settings
from openpi_flash_training.train.step import Metrics, TrainState


class Listener(Protocol):
    """Is told how a run goes; steps count from 0."""

    def started(self, first: int, plan: Plan) -> None:
        """The next step is ``first``; everything is loaded."""

    def stepped(self, step: int) -> None:
        """A step is under way or done."""

    def logged(self, step: int, metrics: Mapping[str, float]) -> None:
        """Means over the last ``log_every`` steps."""

    def saving(self, step: int, place: Path) -> None:
        """A checkpoint is being written."""


@dataclass(frozen=True)
class Outcome:
    """How a call of :func:`train` ended.

    Attributes:
        steps: updates done in the whole run.
        finished: whether these are all.
        checkpoint: the newest.
    """

    steps: int
    finished: bool
    checkpoint: Path


def train(
    settings: TrainSettings,
    listener: Listener,
    *,
    resume: bool = False,
    overwrite: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Train, or go on training, until the last step or until ``should_stop``; then save.

    Args:
        settings: of the run.
        listener: is told how it goes.
        resume: go on with the run that is there, from its newest checkpoint.
        overwrite: delete the run that is there.
        should_stop: asked after each step.

    Raises:
        SettingsError: the settings cannot be used, differ from those of the resumed run, or name
            something in the run that is to be deleted.
        CheckpointError: weights, statistics or checkpoints cannot be read or written.
        DataError: the dataset cannot be read.
        TrainingError: loss, gradients or parameters are not finite.
    """
    directory = expand_home(settings.run.output).absolute()
    newest = None
    if resume and directory.is_dir():
        newest = newest_whole(directory)
        _check_same(settings, directory)
    check_installed(tensorboard=settings.run.tensorboard, wandb=settings.run.wandb is not None)
    assembled = assemble(settings, None if newest is None else directory / str(newest))
    mesh = make_mesh(settings.run.fsdp_devices)
    check_batch(mesh, settings.run.batch_size, settings.run.accumulation)
    plan = make_plan(assembled, mesh)
    if overwrite:
        _refuse_sources_inside(directory, assembled.sources)
    if jax.process_index() == 0:
        prepare_directory(
            directory, resume=resume, overwrite=overwrite, needed=checkpoint_bytes(plan.state)
        )
        # whole at any moment: other processes compare their settings with it
        partial = (directory / SETTINGS).with_suffix(".part")
        partial.write_text(settings_text(settings))
        partial.replace(directory / SETTINGS)
    multihost_utils.sync_global_devices("the run's directory is ready")
    store = CheckpointStore(
        directory, keep_every=settings.run.keep_every, companions=assembled.companions
    )
    try:
        return _run(plan, store, newest, listener, should_stop)
    finally:
        store.close()


def _run(
    plan: Plan,
    store: CheckpointStore,
    newest: int | None,
    listener: Listener,
    should_stop: Callable[[], bool],
) -> Outcome:
    settings = plan.assembled.settings
    if newest is None:
        state, at = plan.first_state(), None
    else:
        state, at = store.restore(newest, plan.state)
    first = 0 if newest is None else newest + 1
    if first >= settings.run.steps:
        return Outcome(first, True, store.directory / str(newest))
    loader = Loader(plan.assembled.samples, _loader_settings(settings), at)
    try:
        writers = _writers(plan.assembled, store.directory, first)
        try:
            listener.started(first, plan)
            loop = _Loop(plan, store, loader, writers, listener)
            return loop.run(state, first, should_stop)
        finally:
            for writer in writers:
                writer.close()
    finally:
        loader.close()


@dataclass
class _Loop:
    plan: Plan
    store: CheckpointStore
    loader: Loader
    writers: list[MetricWriter]
    listener: Listener

    def run(self, state: TrainState, first: int, should_stop: Callable[[], bool]) -> Outcome:
        run = self.plan.assembled.settings.run
        update = self.plan.step()
        waiting: list[Metrics] = []
        for step in range(first, run.steps):
            batch = put_batch(as_batch(next(self.loader)), self.plan.mesh)
            state, metrics = update(state, batch)
            waiting.append(metrics)
            if len(waiting) > 1:
                # the host is one step ahead: more would only hold batches on the device
                jax.tree.map(lambda value: value.block_until_ready(), waiting[-2])
            self.listener.stepped(step)
            is_last = step == run.steps - 1
            logs = is_last or (step + 1) % run.log_every == 0
            stops = _anywhere(should_stop, ask=jax.process_count() == 1 or logs)
            saves = is_last or stops or (step > 0 and step % run.save_every == 0)
            if logs or saves:
                done = _finite(step, waiting)
            if logs or stops:
                self._log(step, done)
                waiting = []
            if saves:
                self.listener.saving(step, self.store.directory / str(step))
                self.store.save(state, self.loader.state())
            if stops:
                break
        self.store.wait()
        return Outcome(step + 1, is_last, self.store.directory / str(step))

    def _log(self, step: int, done: Sequence[Mapping[str, float]]) -> None:
        """Write the means of the steps since the last time."""
        means = {
            name: float(np.mean([metrics[name] for metrics in done], dtype=np.float64))
            for name in ("loss", *sorted(done[0].keys() - {"loss"}))
        }
        for writer in self.writers:
            writer.write(step, means)
        self.listener.logged(step, means)


def _finite(step: int, waiting: list[Metrics]) -> Sequence[Mapping[str, float]]:
    """The metrics of the steps up to ``step``, on the host; refuse what is not finite."""
    done: list[dict[str, float]] = jax.device_get(waiting)
    for at, metrics in enumerate(done, step - len(done) + 1):
        # the loss is of the parameters before the update; param_norm is of those that are saved
        for name in ("loss", "grad_norm", "param_norm"):
            if not math.isfinite(metrics[name]):
                raise TrainingError(
                    f"the {name} of step {at} is {metrics[name]}, nothing is saved from there on; "
                    "check the statistics for dimensions of almost no range, or lower "
                    "optimizer.peak_rate, and go on from the last checkpoint by --resume"
                )
    return done


def _refuse_sources_inside(directory: Path, sources: Mapping[str, Path]) -> None:
    """Refuse to delete what the new run is made from."""
    for name, place in sources.items():
        if place.resolve().is_relative_to(directory.resolve()):
            raise SettingsError(
                f"{name}: {place} lies in {directory}, which --overwrite deletes before it is "
                "read; name another run.output, or move it away"
            )


def _check_same(settings: TrainSettings, directory: Path) -> None:
    """Refuse to resume a run with settings that change what it learns."""
    file = directory / SETTINGS
    if not file.is_file():
        return
    changed = differences(read_settings(file), settings)
    for name, (before, now) in changed.items():
        if name not in RESUMABLE:
            raise SettingsError(
                f"{name}: was {before!r}, now it is {now!r}: a resumed run keeps what decides its "
                f"result; start a new run, from {directory}/<step> as model.weights if you like"
            )


def _loader_settings(settings: TrainSettings) -> LoaderSettings:
    return LoaderSettings(
        batch_size=settings.run.batch_size,
        seed=settings.run.seed,
        process=jax.process_index(),
        processes=jax.process_count(),
        workers=settings.data.workers,
        threads=settings.data.threads,
        prefetch=settings.data.prefetch,
    )


def _writers(assembled: Assembled, directory: Path, first: int) -> list[MetricWriter]:
    """Of the first process; the others write nothing."""
    run = assembled.settings.run
    if jax.process_index() != 0:
        return []
    writers: list[MetricWriter] = []
    if run.tensorboard:
        writers.append(TensorBoard(directory))
    if run.wandb is not None:
        writers.append(WeightsAndBiases(directory, run.wandb, as_tree(assembled.settings)))
    return [JsonLines(directory, first), *writers]


def _anywhere(should_stop: Callable[[], bool], *, ask: bool) -> bool:
    """Whether any process was told to stop; all processes say ``ask`` at the same steps."""
    if not ask:
        return False
    if jax.process_count() == 1:
        return should_stop()
    return bool(np.any(multihost_utils.process_allgather(np.array(should_stop()))))
