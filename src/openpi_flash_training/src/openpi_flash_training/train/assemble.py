"""Settings to everything that a run needs: model, samples, loss, what checkpoints carry.

Whatever is wrong with the settings, the dataset or the weights is found here, before the first
step.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import jax

from openpi_flash_models.actions.fast import DIRECTORY as FAST_DIRECTORY
from openpi_flash_models.actions.fast import find_fast_tokenizer
from openpi_flash_models.checkpoints.layout import lazy_leaves
from openpi_flash_models.checkpoints.readiness import (
    model_shape,
    refuse_other_tokenizer,
    refuse_other_width,
)
from openpi_flash_models.checkpoints.statistics import check_sizes
from openpi_flash_models.config.inference_config import InferenceConfig
from openpi_flash_models.config.named_configs import get_config
from openpi_flash_models.config.robot_file import add_robot_file
from openpi_flash_models.downloads import fetch
from openpi_flash_models.errors import CheckpointError
from openpi_flash_models.files import expand_home
from openpi_flash_models.model.shape import MODEL_NAMES, ModelShape
from openpi_flash_models.text.tokenizer import FILE_NAME as TOKENIZER_FILE
from openpi_flash_models.text.tokenizer import PaligemmaTokenizer, find_tokenizer
from openpi_flash_models.transforms.norm_stats import FILE_NAME as STATS_FILE
from openpi_flash_models.transforms.norm_stats import NormStats, read_norm_stats_file
from openpi_flash_models.transforms.normalize import (
    Normalization,
    choose_normalization,
    refuse_still_state,
)
from openpi_flash_training.dataset.columns import Columns, find_columns
from openpi_flash_training.dataset.feature import Feature
from openpi_flash_training.dataset.layout import STATS, read_json
from openpi_flash_training.dataset.reader import Dataset
from openpi_flash_training.episodes.error import DataError
from openpi_flash_training.train.checkpoints import SETTINGS, Companions
from openpi_flash_training.train.labels import (
    POINTS,
    POSITIONS,
    VISIBLE,
    LabelColumns,
    check_labels,
    standardisation,
)
from openpi_flash_training.train.losses import LossSettings
from openpi_flash_training.train.problem import SettingsError
from openpi_flash_training.train.samples import SampleRecipe, Samples
from openpi_flash_training.train.settings import DataSettings, TrainSettings, check_complete
from openpi_flash_training.train.settings_file import as_tree
from openpi_flash_training.train.sizes import new_shape

_FEW_LAYERS = 4
"""Models of so few layers are faster as a program without loops."""


@dataclass(frozen=True)
class Assembled:
    """What a run works with.

    Attributes:
        settings: of the run.
        config: that will serve the model.
        shape: of the model.
        weights: checkpoint to start from; None: random weights.
        samples: of the dataset.
        loss: what is minimised.
        companions: what each checkpoint carries.
        sources: what is read besides, by the setting that names it.
    """

    settings: TrainSettings
    config: InferenceConfig
    shape: ModelShape
    weights: Path | None
    samples: Samples
    loss: LossSettings
    companions: Companions
    sources: Mapping[str, Path]


def assemble(settings: TrainSettings, resumed: Path | None = None) -> Assembled:
    """Read and check everything but the weights.

    Args:
        settings: of the run.
        resumed: a checkpoint of the same run; shape, statistics and tokenizer are then its own,
            whatever became of the places that they came from.

    Raises:
        SettingsError: names the field.
        CheckpointError: the weights, the statistics or the tokenizer cannot be used.
        DataError: the dataset cannot be read, or has no episode.
    """
    check_complete(settings)
    config = _config(settings)
    dataset = Dataset.open(expand_home(settings.data.dataset))
    if not dataset.episodes:
        raise DataError(dataset.folder, "has no episode to train on")
    # before gigabytes of weights are fetched
    columns = find_columns(
        dataset.folder,
        config.robot,
        dataset.features,
        settings.data.columns,
        how_to_name="""--set 'data.columns={"{key}": "COLUMN"}'""",
    )
    _check_columns(settings, config, dataset.features)
    weights = _weights(settings, resumed)
    tokenizer_file = _tokenizer(settings, weights, resumed)
    tokenizer = PaligemmaTokenizer(tokenizer_file)
    shape = _shape(settings, config, weights, tokenizer)
    if weights is not None:
        refuse_other_tokenizer(tokenizer, shape, str(weights))
        refuse_other_width(shape, config, str(weights))
    stats_file = _statistics(settings, config, dataset.folder, weights, resumed)
    stats = read_norm_stats_file(stats_file)
    check_sizes(stats, config)
    cameras = _cameras(config, columns)
    fast = _fast_tokenizer(config, resumed or weights)
    recipe = SampleRecipe(
        config=config.name,
        robot_file=settings.model.robot_file,
        shape=shape,
        cameras=cameras,
        columns=columns,
        stats=stats,
        normalization=_normalization(config, stats),
        tokenizer=tokenizer_file,
        fast_tokenizer=fast,
        prompt=settings.data.prompt,
        subtask=settings.data.subtask,
        subtask_texts=settings.data.subtask_texts,
        subtask_prompt=settings.data.subtask_prompt,
        subtask_length=settings.data.subtask_length,
        chunks=settings.data.chunks,
        prompts=settings.data.prompts,
        labels=_labels(settings, config, dataset),
    )
    return Assembled(
        settings,
        config,
        shape,
        None if resumed else weights,
        Samples(dataset, recipe),
        _loss(settings, shape, cameras),
        _companions(settings, config, stats_file, tokenizer_file, fast),
        _sources(settings, dataset.folder, weights, stats_file, tokenizer_file),
    )


def _config(settings: TrainSettings) -> InferenceConfig:
    if settings.model.robot_file is not None:
        add_robot_file(Path(settings.model.robot_file))
    config = get_config(settings.model.config)
    if config.kind == "pi0_fast" and config.action_tokens != "fast":
        raise SettingsError(
            f"model.config: {config.name} writes actions as {config.action_tokens}; only FAST "
            "tokens can be trained"
        )
    if settings.loss.max_delay >= config.action_horizon:
        raise SettingsError(
            f"loss.max_delay: is {settings.loss.max_delay}, expected less than the horizon of "
            f"{config.action_horizon} steps"
        )
    return config


def _weights(settings: TrainSettings, resumed: Path | None) -> Path | None:
    if resumed is not None:
        return resumed
    return None if settings.model.weights is None else fetch(settings.model.weights)


def _tokenizer(settings: TrainSettings, weights: Path | None, resumed: Path | None) -> Path:
    if resumed is not None:
        return resumed / "tokenizer" / TOKENIZER_FILE
    if settings.model.tokenizer is None:
        return find_tokenizer(weights or expand_home(settings.data.dataset))
    file = expand_home(settings.model.tokenizer)
    if not file.is_file():
        raise SettingsError(f"model.tokenizer: no such file: {file}")
    return file


def _shape(
    settings: TrainSettings,
    config: InferenceConfig,
    weights: Path | None,
    tokenizer: PaligemmaTokenizer,
) -> ModelShape:
    if weights is not None:
        return model_shape(lazy_leaves(weights), str(weights), config.kind)
    assert settings.model.size is not None
    return new_shape(
        settings.model.size,
        config.kind,
        action_dim=config.action_dim,
        vocabulary=tokenizer.vocabulary_size,
    )


def _statistics(
    settings: TrainSettings,
    config: InferenceConfig,
    dataset: Path,
    weights: Path | None,
    resumed: Path | None,
) -> Path:
    """The file of the statistics: the user's, else the dataset's, else the weights'."""
    below = Path("assets") / config.asset_id / STATS_FILE
    if resumed is not None:
        return resumed / below
    if settings.data.statistics is not None:
        given = expand_home(settings.data.statistics)
        places = [given] if given.is_file() else []
        # of a checkpoint, of openpi's assets/<config>, and of a directory of its own
        places += [given / below, given / config.asset_id / STATS_FILE, given / STATS_FILE]
    else:
        places = [root / below for root in (dataset, weights) if root is not None]
    for place in places:
        if place.is_file():
            return place
    looked = ", ".join(map(str, places))
    raise CheckpointError(
        f"no statistics for {config.asset_id} (looked for {looked}): compute them by openpi-flash "
        "stats, or name them by data.statistics"
    )


def _normalization(config: InferenceConfig, stats: NormStats) -> Normalization:
    chosen = choose_normalization(
        config.normalization, stats, config.scaling, MODEL_NAMES[config.kind]
    )
    refuse_still_state(stats, chosen.state, sum(part.size for part in config.robot.state))
    return chosen


def _cameras(config: InferenceConfig, columns: Columns) -> tuple[str, ...]:
    """The model's slots that get images.

    A masked camera is left out: to pi0-FAST, which counts positions over masked tokens when it is
    trained and not when it serves, it would not be the nothing that it should be.
    """
    if config.blank_cameras_seen:
        return config.cameras
    filled = {camera.slot for camera in config.robot.cameras if camera.path in columns.cameras}
    return tuple(slot for slot in config.cameras if slot in filled)


def _labels(
    settings: TrainSettings, config: InferenceConfig, dataset: Dataset
) -> LabelColumns | None:
    """Where the labels of the extra losses are, checked."""
    extra, named = settings.loss.extra, settings.data.labels
    if not extra.objects and not extra.coordinates:
        return None
    columns = LabelColumns(
        points=named.get(POINTS) if extra.objects else None,
        visible=named.get(VISIBLE) if extra.objects else None,
        positions=named.get(POSITIONS) if extra.coordinates else None,
        cameras=tuple(camera.slot for camera in config.robot.cameras),
    )
    check_labels(
        columns,
        dataset.features,
        objects=extra.objects,
        coordinates=extra.coordinates,
        prompts=_chunks_per_frame(settings, dataset.features),
    )
    if columns.positions is None:
        return columns
    stats = read_json(dataset.folder / STATS)
    middle, deviation = standardisation(stats[columns.positions])
    return replace(columns, middle=middle, deviation=deviation)


def _chunks_per_frame(settings: TrainSettings, features: Mapping[str, Feature]) -> int:
    """How many prompts each frame has a chunk for; 0: its own alone."""
    chunks = settings.data.chunks
    return int(features[chunks].shape[0]) if settings.data.prompts and chunks is not None else 0


def _check_subtasks(data: DataSettings, column: Feature, chunks: int) -> None:
    if not data.subtask_texts:
        if not column.is_text:
            raise SettingsError(
                f"data.subtask: the column {data.subtask} is {column.dtype}, no text; "
                "data.subtask_texts says what numbers stand for"
            )
    elif "int" not in column.dtype or column.shape not in {(), (1,), (chunks,)}:
        raise SettingsError(
            f"data.subtask: the column {data.subtask} is {column.dtype} {list(column.shape)}, "
            f"expected whole numbers, one{f' or {chunks}' if chunks else ''} a frame"
        )


def _check_columns(
    settings: TrainSettings, config: InferenceConfig, features: Mapping[str, Feature]
) -> None:
    """Check the columns of subtasks and of chunks."""
    data = settings.data
    for name, column in (("subtask", data.subtask), ("chunks", data.chunks)):
        if column is not None and column not in features:
            raise SettingsError(f"data.{name}: the dataset has no column {column}")
    if data.subtask is not None:
        _check_subtasks(data, features[data.subtask], _chunks_per_frame(settings, features))
    if data.chunks is not None:
        shape = features[data.chunks].shape
        *prompts, steps, width = (0, *shape) if len(shape) == 1 else shape
        wanted = []
        if data.prompts:
            is_grouped = len(prompts) == 1 and prompts[0] and len(data.prompts) % prompts[0] == 0
            wanted = prompts if is_grouped else [len(data.prompts)]
        if prompts != wanted or steps < config.action_horizon or width != len(config.robot.actions):
            expected = [*wanted, f"{config.action_horizon} or more", len(config.robot.actions)]
            raise SettingsError(
                f"data.chunks: the column {data.chunks} has the shape {list(shape)}, expected "
                f"[{', '.join(map(str, expected))}]"
            )


def _fast_tokenizer(config: InferenceConfig, checkpoint: Path | None) -> Path | None:
    if config.kind != "pi0_fast":
        return None
    return find_fast_tokenizer(checkpoint or Path(), config.fast_tokenizer)


def _loss(settings: TrainSettings, shape: ModelShape, cameras: tuple[str, ...]) -> LossSettings:
    dtype = settings.model.dtype
    if dtype == "auto":
        # CPUs multiply float32 faster than bfloat16
        dtype = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    part = settings.loss
    return LossSettings(
        shape=shape,
        cameras=cameras,
        dtype=dtype,
        lora=settings.model.lora,
        augment=part.augment,
        flow_samples=part.flow_samples,
        max_delay=part.max_delay,
        subtask_weight=part.subtask_weight,
        extra=part.extra,
        remat=part.remat,
        unroll=shape.depth <= _FEW_LAYERS if part.unroll is None else part.unroll,
    )


def _companions(
    settings: TrainSettings,
    config: InferenceConfig,
    stats: Path,
    tokenizer: Path,
    fast: Path | None,
) -> Companions:
    assets = {
        f"{config.asset_id}/{STATS_FILE}": stats.read_bytes(),
        SETTINGS: settings_text(settings).encode(),
    }
    folders = {"assets": assets, "tokenizer": {TOKENIZER_FILE: tokenizer.read_bytes()}}
    if fast is not None:
        files = sorted(fast.rglob("*.json"))
        folders[FAST_DIRECTORY] = {
            file.relative_to(fast).as_posix(): file.read_bytes() for file in files
        }
    return folders


def _sources(
    settings: TrainSettings, dataset: Path, weights: Path | None, stats: Path, tokenizer: Path
) -> Mapping[str, Path]:
    robot_file = settings.model.robot_file
    found = {
        "model.weights": weights,
        "data.dataset": dataset,
        "data.statistics": stats,
        "model.tokenizer": tokenizer,
        "model.robot_file": None if robot_file is None else expand_home(robot_file),
    }
    return {name: place for name, place in found.items() if place is not None}


def settings_text(settings: TrainSettings) -> str:
    """The settings as a file that can be given to the command again."""
    return json.dumps(as_tree(settings), indent=2) + "\n"
