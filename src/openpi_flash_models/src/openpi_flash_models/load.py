"""Loads a policy or a planner from a checkpoint's directory to the device.

from openpi_flash_models.load import load_policy
policy = load_policy("pi05_droid", "/data/pi05_droid")
policy.warm_up()
actions = policy.infer(observation).actions
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openpi_flash_models.actions.malformed import MalformedTokens
from openpi_flash_models.actions.rtc import DEFAULT_RTC, RtcOptions
from openpi_flash_models.actions.tokens import action_decoder
from openpi_flash_models.checkpoints.digest import file_states, identify
from openpi_flash_models.checkpoints.framework import (
    Framework,
    FrameworkChoice,
    choose_framework,
    refuse_dtype,
)
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
from openpi_flash_models.config.inference_config import InferenceConfig
from openpi_flash_models.config.named_configs import get_config
from openpi_flash_models.errors import InferenceConfigError
from openpi_flash_models.files import expand_home
from openpi_flash_models.model.precision import Precision, precision_of
from openpi_flash_models.model.rearrangements import Rearrangements
from openpi_flash_models.model.shape import ModelKind, ModelShape, check_tree
from openpi_flash_models.policy.action_kind import ActionKind
from openpi_flash_models.policy.action_policy import ModelPolicy
from openpi_flash_models.policy.flow_actions import FlowActions
from openpi_flash_models.policy.model_protocols import ActionModel
from openpi_flash_models.policy.planner import (
    MissingCameras,
    PlannerOptions,
    SubtaskPlanner,
    allowed_words,
)
from openpi_flash_models.policy.token_actions import TokenActions
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
    graph: Rearrangements | None = None,
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
        dtype: ``bfloat16`` or ``float32``; None is ``float32`` on a CPU, else ``bfloat16``. In
            JAX also ``float8`` or ``int8``: weights of eight bits, layers that compute as without
            a ``dtype``.
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
    opened = _open(config_name, checkpoint_dir, framework)
    config, checkpoint = opened.config, opened.checkpoint
    if graph is not None and opened.framework == "pytorch":
        raise InferenceConfigError(
            f"graph: its switches are for JAX only, {checkpoint} runs in PyTorch; remove them, or "
            "set framework to jax"
        )
    refuse_dtype(opened.framework, dtype, checkpoint)
    check_choices(config, malformed_tokens)
    stats = read_statistics(checkpoint, config)
    scaled = normalization_of(normalization, config, checkpoint, stats)
    tokenizer = PaligemmaTokenizer(find_tokenizer(checkpoint))
    device, best_dtype = _device(opened.framework)
    precision = precision_of(dtype, best_dtype)
    name = "PyTorch" if opened.framework == "pytorch" else "JAX"
    log.info(
        "the action model computes with %s on the %s in %s%s",
        name,
        device,
        precision.compute,
        f", with weights in {precision.weights}" if precision.weights else "",
    )
    source = file_states(checkpoint)
    tree, shape = read_tree(
        checkpoint, kind=config.kind, dtype=precision.compute, lazy=opened.framework == "pytorch"
    )
    refuse_other_tokenizer(tokenizer, shape, str(checkpoint))
    refuse_other_width(shape, config, str(checkpoint))
    heed_declared(checkpoint, shape, config)
    actions: ActionKind
    if shape.kind == "pi0_fast":
        from openpi_flash_models.jax_models.build import token_model

        decoder = action_decoder(config, checkpoint, tokenizer)
        model = token_model(tree, shape, graph, quantization=precision.weights, source=source)
        actions = TokenActions(model, config, decoder, malformed_tokens=malformed_tokens)
    else:
        flow = _FLOW_MODELS[opened.framework](
            tree,
            shape,
            precision,
            graph=graph,
            rtc=rtc or DEFAULT_RTC,
            source=source,
        )
        actions = FlowActions(flow, config, rtc=rtc)
    return ModelPolicy(
        config,
        actions,
        stats,
        tokenizer,
        default_prompt,
        max_batch=max_batch,
        normalization=scaled,
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
    graph: Rearrangements | None = None,
    block_tokens: int | None = None,
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
        block_tokens: tokens that one program decodes, so that an action model on the same device
            waits for that many at most; None: one program makes the whole text.

    Raises:
        CheckpointError: names what is missing or broken.
    """
    checkpoint = checkpoint_around(_directory(checkpoint_dir))
    tokenizer = PaligemmaTokenizer(find_tokenizer(checkpoint))
    precision = precision_of(dtype, _device("jax")[1])
    source = file_states(checkpoint)
    tree, shape = read_tree(checkpoint, kind="pi05", dtype=precision.compute)
    refuse_other_tokenizer(tokenizer, shape, str(checkpoint))
    heed_declared(checkpoint, shape, None)
    from openpi_flash_models.jax_models.build import planner_model

    model = planner_model(
        tree,
        shape,
        graph,
        max_tokens=max_generation_tokens,
        allowed=allowed_words(tokenizer, shape.vocabulary),
        block=block_tokens,
        quantization=precision.weights,
        source=source,
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
    dtype = dtype or _device("jax")[1]
    if not adapted:
        return nest(read_leaves(checkpoint, dtype=dtype))["params"], sizes
    merged = {path: leaf.astype(DTYPES[dtype], copy=False) for path, leaf in leaves.items()}
    return nest(merged)["params"], sizes


@dataclass(frozen=True)
class _Opened:
    """A checkpoint of which no tensor is read yet.

    Attributes:
        config: what it is to be loaded as.
        checkpoint: its directory.
        framework: that will run it.
    """

    config: InferenceConfig
    checkpoint: Path
    framework: Framework


def _open(config_name: str, checkpoint_dir: str | Path, framework: FrameworkChoice) -> _Opened:
    config = get_config(config_name)
    checkpoint = _directory(checkpoint_dir)
    return _Opened(config, checkpoint, choose_framework(framework, checkpoint, config.kind))


# JAX and PyTorch are imported where they serve only: JAX would reserve most of the GPU's memory


def _device(framework: Framework) -> tuple[str, str]:
    """The kind of device, and the data type that suits it."""
    if framework == "pytorch":
        from openpi_flash_models.torch_models.models import best_device, best_dtype

        return best_device().type, best_dtype()
    from openpi_flash_models.jax_models import build

    return build.device_name(), build.best_dtype()


def _jax_flow(
    tree: Mapping[str, Any],
    shape: ModelShape,
    precision: Precision,
    *,
    graph: Rearrangements | None,
    rtc: RtcOptions,
    source: Hashable,
) -> ActionModel:
    from openpi_flash_models.jax_models.build import flow_model

    # layers compute in the tree's dtype
    return flow_model(tree, shape, graph, rtc, quantization=precision.weights, source=source)


def _torch_flow(
    tree: Mapping[str, Any],
    shape: ModelShape,
    precision: Precision,
    *,
    graph: Rearrangements | None,
    rtc: RtcOptions,
    source: Hashable,
) -> ActionModel:
    del graph, source
    from openpi_flash_models.torch_models.models import TorchActionModel

    return TorchActionModel(tree, shape, dtype=precision.compute, rtc=rtc)


def _directory(path: str | Path) -> Path:
    directory = expand_home(path)
    check_directory(directory)
    return directory


_FLOW_MODELS: dict[Framework, Callable[..., ActionModel]] = {
    "jax": _jax_flow,
    "pytorch": _torch_flow,
}
