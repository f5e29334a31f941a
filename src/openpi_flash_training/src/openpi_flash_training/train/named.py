"""Named training configs: starting points that a user's file or options complete.

Names and values are openpi's (``openpi/training/config.py``) and Positronic's; what a field does
not name is openpi's default.
"""

from __future__ import annotations

import difflib
from dataclasses import replace

from openpi_flash_training.train.lora import LoraSettings
from openpi_flash_training.train.optimizer import OptimizerSettings
from openpi_flash_training.train.problem import SettingsError
from openpi_flash_training.train.settings import (
    DataSettings,
    ModelSettings,
    RunSettings,
    TrainSettings,
)

_BASES = "gs://openpi-assets/checkpoints"
_NO_MEAN = OptimizerSettings(ema_decay=None)


def _full(config: str, base: str) -> TrainSettings:
    return TrainSettings(model=ModelSettings(config=config, weights=f"{_BASES}/{base}"))


def _low_memory(config: str, base: str) -> TrainSettings:
    full = _full(config, base)
    return replace(full, model=replace(full.model, lora=LoraSettings()), optimizer=_NO_MEAN)


NAMED: dict[str, TrainSettings] = {
    "pi0_libero": _full("pi0_libero", "pi0_base"),
    "pi0_libero_low_mem_finetune": _low_memory("pi0_libero_low_mem_finetune", "pi0_base"),
    "pi0_fast_libero": _full("pi0_fast_libero", "pi0_fast_base"),
    "pi05_libero": replace(
        _full("pi05_libero", "pi05_base"),
        optimizer=OptimizerSettings(
            peak_rate=5e-5,
            warmup_steps=10_000,
            decay_steps=1_000_000,
            end_rate=5e-5,
            ema_decay=0.999,
        ),
        run=RunSettings(batch_size=256),
    ),
    "pi05_aloha_pen_uncap": replace(
        _full("pi05_aloha_pen_uncap", "pi05_base"), run=RunSettings(steps=20_000, batch_size=64)
    ),
    # Positronic's deltas depend on its codec, so the inference config is the user's robot file's
    "pi05_positronic_lowmem": replace(
        _low_memory("", "pi05_base"),
        data=DataSettings(
            columns={
                "observation/image": "observation.images.side",
                "observation/wrist_image": "observation.images.left",
            }
        ),
    ),
}
"""Every named training config."""


def named_settings(name: str) -> TrainSettings:
    """The training config of a name.

    Raises:
        SettingsError: there is none; names the closest one.
    """
    if name in NAMED:
        return NAMED[name]
    close = difflib.get_close_matches(name, NAMED, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(sorted(NAMED))}"
    raise SettingsError(f"no training config named {name!r}, {hint}")
