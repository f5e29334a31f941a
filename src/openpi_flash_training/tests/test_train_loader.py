"""The order of samples: the seed's alone, whoever reads, and the same after a resume."""

import numpy as np
import pytest

from openpi_flash_models.errors import CheckpointError
from openpi_flash_training.episodes.error import DataError
from openpi_flash_training.train.loader import Loader, LoaderSettings


class Numbers:
    """Samples that are their own numbers."""

    def __init__(self, count=10, broken=None):
        self.count = count
        self.broken = broken

    def __len__(self):
        return self.count

    def __getitem__(self, number):
        if number == self.broken:
            raise DataError("/data/set", "is broken", 3)
        return {"number": np.int32(number), "images": {"a": np.full((2, 2), number, np.uint8)}}


def read(settings, batches, *, state=None, source=None):
    """The numbers of some batches, and the state after them."""
    loader = Loader(source or Numbers(), settings, state)
    try:
        found = [next(loader)["number"].tolist() for _ in range(batches)]
        return found, loader.state()
    finally:
        loader.close()


def test_each_pass_has_every_sample_once_in_an_order_of_its_own():
    batches, _ = read(LoaderSettings(4, seed=1), 5)
    rows = [number for batch in batches for number in batch]
    assert sorted(rows[:10]) == sorted(rows[10:]) == list(range(10))
    assert rows[:10] != rows[10:]


def test_the_seed_decides_the_order():
    first, _ = read(LoaderSettings(4, seed=1), 3)
    assert read(LoaderSettings(4, seed=1), 3)[0] == first
    assert read(LoaderSettings(4, seed=2), 3)[0] != first


@pytest.mark.parametrize("how", [{}, {"threads": 1, "prefetch": 5}])
def test_a_loader_goes_on_at_the_exact_sample(how):
    whole, _ = read(LoaderSettings(4, seed=1), 7)
    _, state = read(LoaderSettings(4, seed=1), 3)
    assert read(LoaderSettings(4, seed=1, **how), 4, state=state)[0] == whole[3:]


def test_worker_processes_read_the_same_batches():
    whole, _ = read(LoaderSettings(4, seed=1), 5)
    _, state = read(LoaderSettings(4, seed=1), 2)
    assert read(LoaderSettings(4, seed=1, workers=2), 3, state=state)[0] == whole[2:]


def test_the_processes_of_a_run_read_the_parts_of_one_batch():
    whole, _ = read(LoaderSettings(4, seed=1), 3)
    parts = [read(LoaderSettings(4, seed=1, process=p, processes=2), 3)[0] for p in range(2)]
    assert [a + b for a, b in zip(*parts, strict=True)] == whole


def test_batches_are_stacked_in_the_structure_of_a_sample():
    loader = Loader(Numbers(), LoaderSettings(4, seed=1))
    batch = next(loader)
    loader.close()
    assert batch["images"]["a"].shape == (4, 2, 2)
    assert (batch["images"]["a"][:, 0, 0] == batch["number"]).all()


@pytest.mark.parametrize(
    ("settings", "source", "name"),
    [
        (LoaderSettings(2, seed=1), Numbers(), "batch_size was 4, now it is 2"),
        (LoaderSettings(4, seed=2), Numbers(), "seed was 1, now it is 2"),
        (LoaderSettings(4, seed=1), Numbers(11), "samples was 10, now it is 11"),
    ],
)
def test_a_state_of_another_order_is_refused(settings, source, name):
    _, state = read(LoaderSettings(4, seed=1), 1)
    with pytest.raises(CheckpointError, match=name):
        Loader(source, settings, state)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_sample_names_its_episode(workers):
    source = Numbers(broken=5)
    with pytest.raises(DataError, match="/data/set: episode 3: is broken"):
        read(LoaderSettings(5, seed=1, workers=workers), 2, source=source)
