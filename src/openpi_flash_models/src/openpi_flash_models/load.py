"""From a directory to a policy or a planner on the device."""

from __future__ import annotations

from pathlib import Path

import jax

from openpi_flash_models.checkpoints.layout import read_leaves
from openpi_flash_models.checkpoints.leaves import DTYPES, nest
from openpi_flash_models.configs import get_config
from openpi_flash_models.errors import CheckpointError, ConfigError
from openpi_flash_models.jax_models import pi05
from openpi_flash_models.lora import has_lora, merge_lora
from openpi_flash_models.model_shape import MODEL_NAMES, ModelKind, ModelShape, check_tree
from openpi_flash_models.norm_stats import read_norm_stats
from openpi_flash_models.pi05_policy import Pi05Policy
from openpi_flash_models.planner import PlannerOptions, SubtaskPlanner
from openpi_flash_models.robots import get_robot
from openpi_flash_models.tokenizer import PaligemmaTokenizer, find_tokenizer


def load_policy(
    config_name: str,
    checkpoint_dir: str | Path,
    *,
    default_prompt: str | None = None,
    dtype: str | None = None,
) -> Pi05Policy:
    """Load an action policy.

    Args:
        config_name: one of ``configs.CONFIGS``.
        checkpoint_dir: holds ``params/`` or ``model.safetensors``, ``assets/`` and perhaps the
            tokenizer.
        default_prompt: the task of requests that name none.
        dtype: ``bfloat16`` or ``float32``; None takes what the device computes well with.

    Raises:
        ConfigError: no such config.
        CheckpointError: names what is missing or broken.
    """
    config = get_config(config_name)
    if config.kind != "pi05":
        raise ConfigError(f"config {config_name} is of {MODEL_NAMES[config.kind]}, expected pi0.5")
    checkpoint = _directory(checkpoint_dir)
    stats = read_norm_stats(checkpoint, config.asset_id)
    if stats.state.q01 is None or stats.actions.q01 is None:
        raise CheckpointError(
            f"{checkpoint}/assets/{config.asset_id}/norm_stats.json has no q01 and q99, which "
            "pi0.5 needs"
        )
    state_size = sum(part.size for part in config.robot.state)
    sizes_of_stats = {"state": (len(stats.state.mean), state_size)}
    sizes_of_stats["actions"] = (len(stats.actions.mean), len(config.robot.action_names))
    for name, (has, needs) in sizes_of_stats.items():
        if has < needs:
            raise CheckpointError(
                f"{checkpoint}/assets/{config.asset_id}/norm_stats.json: {name} has {has} "
                f"dimensions, the robot {config.robot.name} has {needs}"
            )
    tokenizer = PaligemmaTokenizer(find_tokenizer(checkpoint))
    params, sizes = load_params(checkpoint, dtype=dtype)
    _check_vocabulary(tokenizer, sizes, checkpoint)
    if sizes.action_dim < len(config.robot.action_names):
        raise CheckpointError(
            f"{checkpoint}: the model has {sizes.action_dim} action dimensions, the robot "
            f"{config.robot.name} needs {len(config.robot.action_names)}"
        )
    return Pi05Policy(config, params, stats, tokenizer, default_prompt)


def load_planner(
    checkpoint_dir: str | Path,
    *,
    max_generation_tokens: int = 20,
    generation_prompt_format: str = "Task: {task}. Subtask: ",
    robot: str | None = None,
    dtype: str | None = None,
) -> SubtaskPlanner:
    """Load a planner.

    Args:
        checkpoint_dir: holds ``params/`` or ``model.safetensors`` and perhaps the tokenizer.
        max_generation_tokens: the longest subtask.
        generation_prompt_format: holds ``{task}``.
        robot: whose requests it reads; None takes images by the model's own camera names.
        dtype: as for :func:`load_policy`.

    Raises:
        CheckpointError: names what is missing or broken.
    """
    checkpoint = _directory(checkpoint_dir)
    tokenizer = PaligemmaTokenizer(find_tokenizer(checkpoint))
    params, sizes = load_params(checkpoint, dtype=dtype)
    _check_vocabulary(tokenizer, sizes, checkpoint)
    options = PlannerOptions(
        max_tokens=max_generation_tokens, prompt_format=generation_prompt_format
    )
    return SubtaskPlanner(
        params, tokenizer, get_robot(robot) if robot is not None else None, options
    )


def load_params(
    checkpoint: Path, *, kind: ModelKind = "pi05", dtype: str | None = None
) -> tuple[pi05.Params, ModelShape]:
    """Read, merge, check and place a checkpoint's tensors.

    Args:
        checkpoint: holds ``params/`` or ``model.safetensors``.
        kind: which model it has to be.
        dtype: ``bfloat16`` or ``float32``; None takes what the device computes well with.

    Raises:
        CheckpointError: names what is missing or broken, or which other model it is.
    """
    if dtype is None:
        # CPUs multiply float32 faster than bfloat16, of which XLA makes float32 copies
        dtype = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    source = str(checkpoint)
    leaves = read_leaves(checkpoint)
    if has_lora(leaves):
        leaves = merge_lora(leaves, source)  # in the stored dtypes, before anything is rounded
    sizes = check_tree(leaves, source)
    if sizes.kind != kind:
        raise CheckpointError(
            f"{source}: is a {MODEL_NAMES[sizes.kind]} model, not {MODEL_NAMES[kind]}"
        )
    for path in leaves:
        leaves[path] = leaves[path].astype(DTYPES[dtype], copy=False)
    return jax.device_put(nest(leaves)["params"]), sizes


def _directory(path: str | Path) -> Path:
    directory = Path(path).expanduser()
    if not directory.is_dir():
        raise CheckpointError(f"no such checkpoint directory: {directory}")
    return directory


def _check_vocabulary(tokenizer: PaligemmaTokenizer, sizes: ModelShape, checkpoint: Path) -> None:
    if tokenizer.vocabulary_size > sizes.vocabulary:
        raise CheckpointError(
            f"{checkpoint}: its tokenizer has {tokenizer.vocabulary_size} pieces, the model only "
            f"{sizes.vocabulary}: it belongs to another model"
        )
