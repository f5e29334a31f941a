"""Less compilation, which is most of a small run's time.

All tests and the processes that they start share one cache of compiled programs, in which runs of
equal shapes compile once; and `quick_model` is a loss that compiles in a moment.
"""

import atexit
import os
import tempfile

import pytest

_CACHE = tempfile.TemporaryDirectory(prefix="openpi_flash_test_programs_")
atexit.register(_CACHE.cleanup)
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", _CACHE.name)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")


@pytest.fixture
def quick_model(monkeypatch):
    """Runs in this process have `train_runs.quick_loss`."""
    from train_runs import quick_loss

    from openpi_flash_training.train import plan

    monkeypatch.setattr(plan, "loss", quick_loss)
