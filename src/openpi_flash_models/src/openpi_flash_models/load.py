"""Loads a policy or a planner from a checkpoint's directory to the device.

from openpi_flash_models.load import load_policy
policy = load_policy("pi05_droid", "/data/pi05_droid")
policy.warm_up()
actions = policy.infer(observation).actions
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from openpi_flash_models.actions.malformed import MalformedTokens
from openpi_flash_models.actions.rtc import DEFAULT_RTC, RtcOptions
from openpi_flash_models.actions.tokens import action_decoder
from openpi_flash_models.checkpoints.digest import identify
from openpi_flash_models.checkpoints.framework import FrameworkChoice, choose_framework
from openpi_flash_models.checkpoints.layout import (
    check_directory,
    checkpoint_around,
    lazy_leaves,
    read_leaves,
)
from openpi_flash_models.checkpoints.leaves import DTYPES, LeafPath, nest
from openpi_flash_models.checkpoints.lora import has_lora, merge_lora
from openpi_flash_models.checkpoints.readiness import (
    check_choices,
    heed_declared,
    normalization_of,
    refuse_other_kind,
    refuse_other_tokenizer,
    refuse_other_width,
)
from openpi_flash_models.checkpoints.statistics import read_statistics
from openpi_flash_models.config.named_configs import get_config
from openpi_flash_models.errors import InferenceConfigError
from openpi_flash_models.files import expand_home
from openpi_flash_models.jax_models.compile_cache import use_compile_cache
from openpi_flash_models.jax_models.models import JaxActionModel, JaxTokenModel
from openpi_flash_models.model.graph_options import DEFAULT_GRAPH, GraphOptions
from openpi_flash_models.model.shape import ModelKind, ModelShape, check_tree
from openpi_flash_models.policy.action_policy import ModelPolicy
from openpi_flash_models.policy.model_protocols import ActionModel
from openpi_flash_models.policy.planner import (
    MissingCameras,
    PlannerOptions,
    SubtaskPlanner,
    allowed_words,
)
from openpi_flash_models.robots import get_robot
from openpi_flash_models.text.tokenizer import PaligemmaTokenizer, find_tokenizer
from openpi_flash_models.transforms.normalize import NormalizationChoice

log = logging.getLogger(__name__)


def load_policy(
    config_name: str,
    checkpoint_dir: str | Path,
    *,
    default_prompt: str | None = None,
    framework: FrameworkChoice = "auto",
    dtype: str | None = None,
    graph: GraphOptions | None = None,
    rtc: RtcOptions | None = DEFAULT_RTC,
    max_batch: int = 1,
    normalization: NormalizationChoice = "auto",
    malformed_tokens: MalformedTokens = "error",
) -> ModelPolicy:
    """Load an action policy.

    Args:
        config_name: one of ``config.named_configs.CONFIGS``.
        checkpoint_dir: a local directory; holds ``params/`` or ``model.safetensors``, ``assets/``
            and perhaps the tokenizer.
        default_prompt: the task of requests that name none.
        framework: see :func:`openpi_flash_models.checkpoints.framework.choose_framework`.
        dtype: ``bfloat16`` or ``float32``; None is ``float32`` on a CPU, else ``bfloat16``.
        graph: switches of exact rearrangements, to compare, in JAX only; None: all on, with the
            prompt lengths that suit the device.
        rtc: how the previous chunk guides the new one; None: requests for it are refused.
        max_batch: most requests that one call of the model answers.
        normalization: how state and actions are scaled; ``auto`` takes what the config says, then
            what the checkpoint says, then what openpi does for the model.
        malformed_tokens: the answer if pi0-FAST generates tokens that are no chunk; see
            ``actions/malformed.py``.

    Raises:
        InferenceConfigError: no such config or framework, or one that cannot do what is asked.
        CheckpointError: names what is missing or broken.
    """
    config = get_config(config_name)
    checkpoint = _directory(checkpoint_dir)
    chosen = choose_framework(framework, checkpoint, config.kind)
    if graph is not None and chosen == "pytorch":
        raise InferenceConfigError(
            f"graph: its switches are for JAX only, {checkpoint} runs in PyTorch; remove them, or "
            "set framework to jax"
        )
    check_choices(config, malformed_tokens)
    stats = read_statistics(checkpoint, config)
    scaled = normalization_of(normalization, config, checkpoint, stats)
    tokenizer = PaligemmaTokenizer(find_tokenizer(checkpoint))
    if chosen == "pytorch":
        # without JAX, which would reserve most of the GPU's memory
        from openpi_flash_models.torch_models.models import best_device, best_dtype

        device, dtype = best_device().type, dtype or best_dtype()
    else:
        device, dtype = jax.default_backend(), dtype or _best_dtype()
    name = "PyTorch" if chosen == "pytorch" else "JAX"
    log.info("the action model computes with %s on the %s in %s", name, device, dtype)
    tree, shape = read_tree(checkpoint, kind=config.kind, dtype=dtype, lazy=chosen == "pytorch")
    refuse_other_tokenizer(tokenizer, shape, str(checkpoint))
    refuse_other_width(shape, config, str(checkpoint))
    heed_declared(checkpoint, shape, config)
    model: ActionModel | JaxTokenModel
    decoder = None
    if chosen == "pytorch":
        from openpi_flash_models.torch_models.models import TorchActionModel

        model = TorchActionModel(tree, shape, dtype=dtype, rtc=rtc or DEFAULT_RTC)
    else:
        use_compile_cache()
        graph = graph or graph_of_device()
        if shape.kind == "pi0_fast":
            decoder = action_decoder(config, checkpoint, tokenizer)
            model = JaxTokenModel(tree, shape, graph)
        else:
            model = JaxActionModel(tree, shape, graph, rtc or DEFAULT_RTC)
    return ModelPolicy(
        config,
        model,
        stats,
        tokenizer,
        default_prompt,
        max_batch=max_batch,
        rtc=rtc,
        decoder=decoder,
        normalization=scaled,
        malformed_tokens=malformed_tokens,
        checkpoint=identify(checkpoint),
    )


def load_planner(
    checkpoint_dir: str | Path,
    *,
    max_generation_tokens: int = 20,
    generation_prompt_format: str = "Task: {task}. Subtask: ",
    robot: str | None = None,
    dtype: str | None = None,
    missing_cameras: MissingCameras = "masked",
    graph: GraphOptions | None = None,
) -> SubtaskPlanner:
    """Load a planner.

    Args:
        checkpoint_dir: a local directory; holds ``params/`` or ``model.safetensors`` and perhaps
            the tokenizer, or is the ``params`` directory itself.
        max_generation_tokens: the longest subtask.
        generation_prompt_format: holds ``{task}``.
        robot: the robot whose requests it reads; None takes images by the model's camera names.
        dtype: as for :func:`load_policy`.
        missing_cameras: see ``PlannerOptions``.
        graph: as for :func:`load_policy`.

    Raises:
        CheckpointError: names what is missing or broken.
    """
    checkpoint = checkpoint_around(_directory(checkpoint_dir))
    tokenizer = PaligemmaTokenizer(find_tokenizer(checkpoint))
    tree, shape = read_tree(checkpoint, kind="pi05", dtype=dtype)
    refuse_other_tokenizer(tokenizer, shape, str(checkpoint))
    heed_declared(checkpoint, shape, None)
    use_compile_cache()
    model = JaxTokenModel(
        tree,
        shape,
        graph or graph_of_device(),
        max_tokens=max_generation_tokens,
        allowed=allowed_words(tokenizer, shape.vocabulary),
    )
    options = PlannerOptions(
        prompt_format=generation_prompt_format, missing_cameras=missing_cameras
    )
    return SubtaskPlanner(
        model,
        tokenizer,
        get_robot(robot) if robot is not None else None,
        options,
        checkpoint=identify(checkpoint),
    )


def read_tree(
    checkpoint: Path, *, kind: ModelKind, dtype: str | None = None, lazy: bool = False
) -> tuple[dict[str, Any], ModelShape]:
    """Read, merge and check a checkpoint's tensors, in the host's memory.

    Args:
        checkpoint: holds ``params/`` or ``model.safetensors``.
        kind: which model it has to be.
        dtype: ``bfloat16`` or ``float32``; None is ``float32`` on a CPU, else ``bfloat16``.
        lazy: leave the tensors in their file (:class:`LazyLeaf`), of any type; those of LoRA
            checkpoints are read all the same, to be merged.

    Raises:
        CheckpointError: names what is missing or broken, or the kind of model that it is.
    """
    dtype = dtype or _best_dtype()
    source = str(checkpoint)
    leaves: Mapping[LeafPath, Any] = lazy_leaves(checkpoint)  # checked before any is read
    adapted = has_lora(leaves)
    if adapted:
        # in the stored dtypes, before anything is rounded
        leaves = merge_lora(read_leaves(checkpoint), source)
    sizes = check_tree(leaves, source)
    refuse_other_kind(sizes, source, kind)
    if lazy and not adapted:
        return nest(leaves)["params"], sizes
    if not adapted:
        return nest(read_leaves(checkpoint, dtype=dtype))["params"], sizes
    merged = {path: leaf.astype(DTYPES[dtype], copy=False) for path, leaf in leaves.items()}
    return nest(merged)["params"], sizes


def graph_of_device() -> GraphOptions:
    """Every switch on, with the prompt lengths that suit the device."""
    if jax.default_backend() != "cpu":
        return DEFAULT_GRAPH
    # programs for a CPU are compiled at every start: fewer of them
    return dataclasses.replace(DEFAULT_GRAPH, token_buckets=DEFAULT_GRAPH.token_buckets[:1])


def _best_dtype() -> str:
    # CPUs multiply float32 faster than bfloat16, of which XLA makes float32 copies
    return "float32" if jax.default_backend() == "cpu" else "bfloat16"


def _directory(path: str | Path) -> Path:
    directory = expand_home(path)
    check_directory(directory)
    return directory
