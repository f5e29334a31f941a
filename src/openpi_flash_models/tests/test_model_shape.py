"""Which model a checkpoint is, at which sizes, and what is wrong with it."""

import dataclasses

import numpy as np
import pytest

from openpi_flash_models.errors import CheckpointError, InferenceConfigError
from openpi_flash_models.model.shape import (
    ModelShape,
    check_tree,
    expected_shapes,
    kind_of,
    named_shape,
)


class Sized:
    """What is looked at of a tensor."""

    def __init__(self, shape):
        self.shape = shape


def leaves_of(shape: ModelShape):
    return {tuple(name.split("/")): Sized(size) for name, size in expected_shapes(shape).items()}


KINDS = ("pi0", "pi05", "pi0_fast")


@pytest.fixture(scope="module")
def leaves(tiny_leaves):
    return tiny_leaves("pi05")


@pytest.mark.parametrize("kind", KINDS)
def test_sizes_come_from_the_tensors(kind, tiny_leaves):
    leaves = tiny_leaves(kind)
    sizes = check_tree(leaves, "tiny")
    assert sizes.kind == kind
    assert (sizes.width, sizes.depth, sizes.vocabulary) == (64, 3, 2048)
    expert = (0, 0) if kind == "pi0_fast" else (32, 32)
    assert (sizes.expert_width, sizes.action_dim) == expert
    assert (sizes.vision_width, sizes.vision_depth, sizes.image_tokens) == (48, 2, 256)
    assert {"/".join(path): leaf.shape for path, leaf in leaves.items()} == expected_shapes(sizes)


@pytest.mark.parametrize(
    ("kind", "count", "parameters"),
    [("pi0", 50, 3_238_048_528), ("pi05", 51, 3_353_433_872), ("pi0_fast", 32, 2_923_335_408)],
)
def test_the_released_sizes_have_openpis_number_of_parameters(kind, count, parameters):
    shapes = expected_shapes(named_shape(kind))
    assert len(shapes) == count
    assert sum(int(np.prod(shape)) for shape in shapes.values()) == parameters


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["gemma_2b", "gemma_2b_lora", "dummy"])
def test_a_model_of_a_named_size_is_read_back(kind, name):
    expert = {"dummy": "dummy"}.get(name, "gemma_300m")
    shape = named_shape(kind, language=name, expert=expert, vocabulary=300)
    assert check_tree(leaves_of(shape), "new") == shape


def test_a_size_that_does_not_exist_or_does_not_fit_is_refused():
    with pytest.raises(
        InferenceConfigError, match="no model size named 'gemma_9b', known: dummy, gemma"
    ):
        named_shape("pi0", language="gemma_9b")
    with pytest.raises(
        InferenceConfigError, match="gemma_2b and dummy cannot attend to each other"
    ):
        named_shape("pi0", expert="dummy")


@pytest.mark.parametrize("kind", KINDS)
def test_every_missing_tensor_is_an_error_that_names_it(kind, tiny_leaves):
    leaves = tiny_leaves(kind)
    for path in leaves:
        rest = {other: leaf for other, leaf in leaves.items() if other != path}
        with pytest.raises(CheckpointError, match=f"tiny: missing tensor {'/'.join(path)}"):
            check_tree(rest, "tiny")


def test_an_unexpected_tensor_is_an_error_that_names_it(leaves):
    extra = leaves | {("params", "value_head", "kernel"): np.zeros(3)}
    with pytest.raises(CheckpointError, match="unexpected tensor params/value_head/kernel"):
        check_tree(extra, "tiny")


def test_a_mis_shaped_tensor_is_an_error_with_both_shapes(leaves):
    wrong = leaves | {("params", "time_mlp_in", "bias"): np.zeros(31)}
    expected = r"time_mlp_in/bias \(shape \(31,\), expected \(32,\)\)"
    with pytest.raises(CheckpointError, match=expected):
        check_tree(wrong, "tiny")


def test_many_faults_are_summed_up(leaves):
    few = {path: leaf for path, leaf in leaves.items() if "bias" not in path}
    with pytest.raises(CheckpointError, match=r"and \d+ more"):
        check_tree(few | {("params", f"x{i}"): np.zeros(1) for i in range(9)}, "tiny")


def test_adapters_have_to_be_merged_before(leaves):
    path = ("params", "PaliGemma", "llm", "layers", "attn", "q_einsum", "lora_a")
    with pytest.raises(CheckpointError, match="LoRA tensors, which have to be merged"):
        check_tree(leaves | {path: np.zeros(1)}, "tiny")


def test_kinds_are_told_apart_by_names():
    for kind in KINDS:
        assert kind_of(expected_shapes(named_shape(kind))) == kind


def test_a_shape_is_a_value():
    shape = named_shape("pi0")
    assert dataclasses.replace(shape, kind="pi05") != shape
