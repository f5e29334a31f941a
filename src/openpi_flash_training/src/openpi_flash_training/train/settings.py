"""The configuration of a training run: one frozen value, checked where it is made.

    model      which model, from which weights, with which adapters
    data       which dataset, and how its columns become a model's inputs
    loss       what is minimised
    optimizer  AdamW and its learning rate
    run        where, how long, and on how many devices

A file (``settings_file.py``) and the command's options give the fields; ``named.py`` has named
starting points.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from openpi_flash_training.train.augment import AugmentSettings
from openpi_flash_training.train.extra_losses import ExtraLosses
from openpi_flash_training.train.labels import POINTS, POSITIONS, VISIBLE
from openpi_flash_training.train.lora import LoraSettings
from openpi_flash_training.train.optimizer import OptimizerSettings
from openpi_flash_training.train.problem import SettingsError


@dataclass(frozen=True)
class ModelSettings:
    """Which model is trained.

    Attributes:
        config: the inference config that will serve it: robot, horizon, prompt, cameras.
        robot_file: a file that defines the config or its robot; None: they are ours.
        weights: a checkpoint to start from, a directory or a URL; None: random weights of ``size``.
        size: of a model with random weights: one of ``sizes.SIZES``; None with ``weights``.
        tokenizer: ``paligemma_tokenizer.model``; None: that of the weights, or of the cache.
        dtype: in which layers compute; ``auto`` is float32 on a CPU, else bfloat16. Trained
            parameters are float32.
        lora: train adapters of this kind; None: train all parameters.
    """

    config: str = ""
    robot_file: str | None = None
    weights: str | None = None
    size: str | None = None
    tokenizer: str | None = None
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    lora: LoraSettings | None = None

    def __post_init__(self) -> None:
        lora = self.lora or LoraSettings()
        for name, adapters in (("language", lora.language), ("expert", lora.expert)):
            if adapters is None:
                continue
            _at_least(f"model.lora.{name}.rank", adapters.rank, 1)
            if adapters.scale != 1:
                raise SettingsError(
                    f"model.lora.{name}: its scale is {adapters.scale:.4g} (alpha "
                    f"{adapters.alpha:g}, rank {adapters.rank}); a checkpoint does not hold alpha, "
                    "so servers take 1: set alpha to the rank"
                )


@dataclass(frozen=True)
class DataSettings:
    """Which samples there are.

    Attributes:
        dataset: folder of a LeRobot dataset.
        columns: a key of the robot's requests (``observation/state``), or ``action``, to the column
            of the dataset that holds it; keys that are not named are found by their names.
        statistics: a ``norm_stats.json``, or a directory with ``assets/<asset_id>/`` of one; None:
            the dataset's own (``assets/`` in its folder), else those of the weights.
        prompt: the task of every sample; None: each frame's task in the dataset.
        chunks: column with each frame's chunk [steps, actions], instead of the actions from the
            frame on; with ``prompts`` [prompts, steps, actions]. None: there is none.
        prompts: tasks for which each frame has a chunk: each frame is a sample for each of them.
            Where datasets of several tasks are one, the prompts of each, one group after the other;
            a frame has those of the group that its own task is in.
        labels: columns of the extra losses' labels: ``points``, ``visible``, ``positions``
            (``labels.py``).
        subtask: column of the dataset with each frame's subtask: a text, or with ``subtask_texts`` a
            number; with ``prompts`` one number for each of a frame's. None: no subtask loss.
        subtask_texts: what the numbers of the column stand for, from 0 on; empty: it has texts.
        subtask_prompt: what the planner reads before the subtask; holds ``{task}``.
        subtask_length: most tokens of the planner's prompt and the subtask together.
        workers: processes that read, decode and tokenise; 0: threads of the trainer.
        threads: of each worker, or of the trainer without workers.
        prefetch: batches that are ready before they are needed.
    """

    dataset: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    statistics: str | None = None
    prompt: str | None = None
    chunks: str | None = None
    prompts: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    subtask: str | None = None
    subtask_texts: tuple[str, ...] = ()
    subtask_prompt: str = "Task: {task}. Subtask: "
    subtask_length: int = 200
    workers: int = 0
    threads: int = 2
    prefetch: int = 2

    def __post_init__(self) -> None:
        _at_least("data.workers", self.workers, 0)
        _at_least("data.threads", self.threads, 1)
        _at_least("data.prefetch", self.prefetch, 1)
        _at_least("data.subtask_length", self.subtask_length, 2)
        if self.prompts and (self.chunks is None or self.prompt is not None):
            raise SettingsError("data.prompts: needs data.chunks, and excludes data.prompt")
        if self.subtask_texts and self.subtask is None:
            raise SettingsError("data.subtask_texts: needs data.subtask, the column of its numbers")
        for name in self.labels:
            if name not in LABELS:
                raise SettingsError(
                    f"data.labels.{name}: there are no such labels, known: {', '.join(LABELS)}"
                )
        if "{task}" not in self.subtask_prompt:
            raise SettingsError(
                f"data.subtask_prompt: is {self.subtask_prompt!r}, which lacks {{task}}"
            )


@dataclass(frozen=True)
class LossPart:
    """What is minimised; the fields are those of ``losses.LossSettings``.

    Attributes:
        augment: of the images; None: none.
        flow_samples: pairs of noise and time per encoded observation.
        max_delay: training-time RTC: most first actions that are given clean; 0: none.
        subtask_weight: of the subtask loss.
        extra: extra losses and their weights.
        remat: compute layers again in the backward pass, which needs less memory and more time.
        unroll: layers one after the other in the program instead of a loop; None: for models of
            four layers at most, which it makes faster.
    """

    augment: AugmentSettings | None = field(default_factory=AugmentSettings)
    flow_samples: int = 1
    max_delay: int = 0
    subtask_weight: float = 1.0
    extra: ExtraLosses = field(default_factory=ExtraLosses)
    remat: bool = False
    unroll: bool | None = None

    def __post_init__(self) -> None:
        _at_least("loss.flow_samples", self.flow_samples, 1)
        _at_least("loss.max_delay", self.max_delay, 0)


@dataclass(frozen=True)
class RunSettings:
    """Where, how long, and on how many devices.

    Attributes:
        output: directory of the run: checkpoints, settings and logs.
        steps: updates of the whole run.
        batch_size: samples of one update, over all devices and hosts.
        accumulation: parts in which a batch is computed, one after another; less memory.
        seed: of the sample order, the noise and new weights.
        save_every: steps from one checkpoint to the next; the last step is always saved.
        keep_every: a checkpoint whose step is a multiple is kept for ever, of others the newest
            only; None: the newest only.
        log_every: steps that one line of metrics is the mean of.
        fsdp_devices: devices over which parameters and the optimiser's state are spread; the
            batch is spread over all devices.
        tensorboard: write logs for TensorBoard to ``<output>/tensorboard``.
        wandb: project of Weights & Biases; None: not used. Offline, unless ``WANDB_MODE`` says
            otherwise.
    """

    output: str = ""
    steps: int = 30_000
    batch_size: int = 32
    accumulation: int = 1
    seed: int = 42
    save_every: int = 1000
    keep_every: int | None = 5000
    log_every: int = 100
    fsdp_devices: int = 1
    tensorboard: bool = False
    wandb: str | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulation", "save_every", "log_every"):
            _at_least(f"run.{name}", getattr(self, name), 1)
        _at_least("run.fsdp_devices", self.fsdp_devices, 1)
        if self.keep_every is not None:
            _at_least("run.keep_every", self.keep_every, 1)
        if not 0 <= self.seed < 2**32:
            raise SettingsError(f"run.seed: is {self.seed}, expected 0 to {2**32 - 1}")
        if self.batch_size % self.accumulation:
            raise SettingsError(
                f"run.accumulation: is {self.accumulation}, which does not divide the batch of "
                f"{self.batch_size} samples"
            )


@dataclass(frozen=True)
class TrainSettings:
    """A whole training configuration."""

    model: ModelSettings = field(default_factory=ModelSettings)
    data: DataSettings = field(default_factory=DataSettings)
    loss: LossPart = field(default_factory=LossPart)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    run: RunSettings = field(default_factory=RunSettings)


LABELS = (POINTS, VISIBLE, POSITIONS)
RESUMABLE = frozenset(
    {
        "data.dataset",
        "data.workers",
        "data.threads",
        "data.prefetch",
        "loss.remat",
        "loss.unroll",
        "model.robot_file",
        "run.output",
        "run.steps",
        "run.save_every",
        "run.keep_every",
        "run.log_every",
        "run.fsdp_devices",
        "run.tensorboard",
        "run.wandb",
    }
)
"""Fields that a resumed run may change: none decides what is learnt from which sample. (The loader
checks that a dataset in another place has as many samples.)"""


def check_complete(settings: TrainSettings) -> None:
    """Check that everything that has no default is there.

    Raises:
        SettingsError: names the field and the option for it.
    """
    if not settings.model.config:
        raise SettingsError(
            "model.config: is missing: name the inference config that will serve the model, such "
            "as pi05_libero, or one of a robot file (model.robot_file)"
        )
    if not settings.data.dataset:
        raise SettingsError("data.dataset: is missing: name a LeRobot dataset (--dataset)")
    if not settings.run.output:
        raise SettingsError("run.output: is missing: name a directory for the run (--output)")
    if (settings.model.weights is None) == (settings.model.size is None):
        raise SettingsError(
            "model.weights, model.size: give one of them: a checkpoint to start from, or the size "
            "of a model with random weights"
        )


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise SettingsError(f"{name}: is {value}, expected at least {least}")
