"""Batches of samples in a random order that depends on the seed alone.

Row r of batch k is sample number ``order[k * B + r]``; the order is drawn anew for each pass over
the dataset, and batches go on over its end. Processes of one run read disjoint rows. So the rows
of a batch do not depend on how many processes, workers or threads read them, and a loader that
starts at batch k gives what one that started at 0 gives from there on. Nothing here needs JAX.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import grain
import numpy as np
from absl import flags

from openpi_flash_models.errors import CheckpointError
from openpi_flash_training.train.samples import Sample

_ENDLESS = 2**48
"""Rows of a loader that does not end."""


class SampleSource(Protocol):
    """Samples by number; sent to workers."""

    def __len__(self) -> int:
        """Number of samples."""

    def __getitem__(self, number: int) -> Sample:
        """One sample."""


@dataclass(frozen=True)
class LoaderSettings:
    """How batches are read.

    Attributes:
        batch_size: rows of a batch, over all processes.
        seed: of the order.
        process: which rows are read: the part of this process.
        processes: number of parts.
        workers: processes that read; 0: threads of this one.
        threads: of each worker, or of this process; each reads a batch.
        prefetch: batches that are ready before they are needed, of each worker.
    """

    batch_size: int
    seed: int
    process: int = 0
    processes: int = 1
    workers: int = 0
    threads: int = 2
    prefetch: int = 2


class Loader:
    """An endless iterator of batches: samples with a leading axis.

    Args:
        source: the samples.
        settings: how they are read.
        state: of another loader, from which this one goes on; None: from the start.

    Raises:
        CheckpointError: the state is of another dataset or order.
    """

    def __init__(
        self, source: SampleSource, settings: LoaderSettings, state: bytes | None = None
    ) -> None:
        self._identity = {
            "samples": len(source),
            "batch_size": settings.batch_size,
            "seed": settings.seed,
        }
        self._next = 0 if state is None else _read_state(state, self._identity)
        rows = _Rows(source, settings, self._next)
        batches = (
            grain.MapDataset.range(_ENDLESS)
            .map(rows)
            .batch(rows.each, batch_fn=stack)
            .to_iter_dataset(
                grain.ReadOptions(
                    num_threads=settings.threads,
                    prefetch_buffer_size=max(settings.prefetch, settings.threads),
                )
            )
        )
        if settings.workers:
            # grain's worker pool asks for absl's flags, which a program of another kind never reads
            flags.FLAGS.mark_as_parsed()
            batches = batches.mp_prefetch(
                grain.multiprocessing.MultiprocessingOptions(
                    num_workers=settings.workers, per_worker_buffer_size=settings.prefetch
                )
            )
        self._batches = iter(batches)

    def __iter__(self) -> Iterator[Sample]:
        return self

    def __next__(self) -> Sample:
        batch: Sample = next(self._batches)
        self._next += 1
        return batch

    def state(self) -> bytes:
        """Where the loader is: after the batches that it has given."""
        return json.dumps({"next_batch": self._next, **self._identity}).encode()

    def close(self) -> None:
        """End workers and threads."""
        self._batches.close()


@dataclass(frozen=True)
class _Rows:
    """This process's rows, one after another, from a batch on."""

    source: SampleSource
    settings: LoaderSettings
    first_batch: int

    @property
    def each(self) -> int:
        """Rows of one batch."""
        return self.settings.batch_size // self.settings.processes

    def __call__(self, row: int) -> Sample:
        batch, place = divmod(row, self.each)
        start = (self.first_batch + batch) * self.settings.batch_size
        return self.source[self._order(start + self.settings.process * self.each + place)]

    def _order(self, position: int) -> int:
        count = len(self.source)
        order = grain.MapDataset.range(count).shuffle(seed=self.settings.seed).repeat()
        return int(order[position])


def stack(samples: Sequence[Any]) -> Any:
    """Samples of one structure, with a leading axis."""
    first = samples[0]
    if isinstance(first, dict):
        return {key: stack([sample[key] for sample in samples]) for key in first}
    return np.stack(samples)


def _read_state(state: bytes, identity: dict[str, int]) -> int:
    found = json.loads(state)
    for name, now in identity.items():
        if found.get(name) != now:
            raise CheckpointError(
                f"the loader's {name} was {found.get(name)}, now it is {now}: the samples would "
                "come in another order; start a new run from the checkpoint's weights"
            )
    return int(found["next_batch"])
