"""PyTorch checkpoints: openpi's and LeRobot's spellings read as the tree that Orbax gives."""

import contextlib
import json
import os
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from openpi_flash_models.checkpoints import layout, orbax
from openpi_flash_models.checkpoints.leaves import LazyLeaf, nest
from openpi_flash_models.checkpoints.safetensors import (
    lazy_leaves,
    read_safetensors,
    write_safetensors,
)
from openpi_flash_models.errors import CheckpointError
from openpi_flash_models.model.shape import ModelShape, check_tree, expected_shapes

BF16 = np.dtype(ml_dtypes.bfloat16)
ROOT = "paligemma_with_expert"
LM_HEAD = f"{ROOT}.paligemma.lm_head.weight"
EMBED = f"{ROOT}.paligemma.model.language_model.embed_tokens.weight"
JUNK = f"{ROOT}.gemma_expert.lm_head.weight"
TINY = {
    "patch": 112,
    "vision_width": 8,
    "vision_depth": 2,
    "vision_heads": 2,
    "vision_mlp": 12,
    "width": 16,
    "depth": 3,
    "mlp": 20,
    "heads": 4,
    "key_heads": 1,
    "head_width": 6,
    "vocabulary": 32,
}
EXPERT = {"expert_width": 10, "expert_mlp": 14, "action_dim": 5}
SIZES = {
    "pi0": ModelShape("pi0", **TINY, **EXPERT),
    "pi05": ModelShape("pi05", **TINY, **EXPERT),
    "pi0_fast": ModelShape("pi0_fast", **TINY),
    "pi05 with two key heads": ModelShape("pi05", **(TINY | {"key_heads": 2}), **EXPERT),
}


def random_tree(sizes, dtype=np.float32):
    rng = np.random.default_rng(3)
    return {
        tuple(name.split("/")): rng.standard_normal(shape).astype(dtype)
        for name, shape in expected_shapes(sizes).items()
    }


def assert_same(ours, expected):
    assert ours.keys() == expected.keys()
    for path, leaf in expected.items():
        assert ours[path].dtype == leaf.dtype, path
        np.testing.assert_array_equal(ours[path], leaf, err_msg=str(path))


def read(file, **options):
    return {path: leaf.read() for path, leaf in lazy_leaves(file, **options).items()}


@pytest.fixture
def written(tmp_path):
    """A pi0.5 file, as a dictionary of arrays by PyTorch's names."""
    file = tmp_path / "model.safetensors"
    write_safetensors(file, random_tree(SIZES["pi05"]))
    return safetensors.numpy.load_file(file)


def rewrite(tmp_path, tensors, **hints):
    """Write a file as another program would, without the hints that ours leaves in it."""
    file = tmp_path / "other" / "model.safetensors"
    file.parent.mkdir(exist_ok=True)
    (file.parent / "config.json").write_text(json.dumps({"vision_heads": 2} | hints))
    safetensors.numpy.save_file(tensors, file)
    return file


def test_openpis_file_is_the_tree_of_its_orbax_checkpoint(data, tiny_checkpoint):
    leaves = orbax.read_leaves(tiny_checkpoint / "params", dtype="bfloat16")
    assert_same(read(data / "tiny_pi05_torch/model.safetensors", vision_heads=4), leaves)


def test_the_nested_tree_is_the_one_of_the_orbax_reader(data, tiny_checkpoint):
    tree = read_safetensors(
        data / "tiny_pi05_torch/model.safetensors", dtype="float32", vision_heads=4
    )
    expected = nest(orbax.read_leaves(tiny_checkpoint / "params"))
    ours = tree["params"]["PaliGemma"]["llm"]["layers"]["attn"]["q_einsum_1"]["w"]
    theirs = expected["params"]["PaliGemma"]["llm"]["layers"]["attn"]["q_einsum_1"]["w"]
    assert ours.dtype == np.float32
    np.testing.assert_array_equal(ours, theirs.astype(BF16).astype(np.float32))


@pytest.mark.parametrize("dtype", [np.float32, BF16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_what_is_written_is_read_back_bit_for_bit(sizes, dtype, tmp_path):
    tree = random_tree(sizes, dtype)
    write_safetensors(tmp_path / "model.safetensors", tree)
    ours = read(tmp_path / "model.safetensors")
    assert_same(ours, tree)
    assert check_tree(ours, "tiny") == sizes


@pytest.mark.parametrize("family", ["pi0", "pi05"])
def test_names_and_shapes_are_openpis(family, data, tmp_path):
    expected = json.loads((data / "torch_keys.json").read_text())[family]
    tiny = {"patch": 14, "vision_width": 48, "vision_depth": 2, "vision_heads": 4}
    tiny |= {"vision_mlp": 96, "width": 64, "depth": 3, "mlp": 128, "heads": 8, "key_heads": 1}
    tiny |= {"head_width": 16, "vocabulary": 2048}
    tiny |= {"expert_width": 32, "expert_mlp": 64, "action_dim": 32}
    file = tmp_path / "model.safetensors"
    write_safetensors(file, random_tree(ModelShape(family, **tiny)), expert_head=True)
    ours = {name: list(a.shape) for name, a in safetensors.numpy.load_file(file).items()}
    assert ours.keys() == expected.keys() - {EMBED}
    assert {name: list(expected[name]) for name in ours} == ours


@pytest.mark.parametrize("names", ["lm_head", "embed_tokens", "both"])
@pytest.mark.parametrize("prefix", ["", "model."])
def test_either_name_of_the_embedding_is_taken_with_and_without_prefix(
    names, prefix, written, tmp_path
):
    embedding = written.pop(LM_HEAD)
    if names != "embed_tokens":
        written[LM_HEAD] = embedding
    if names != "lm_head":
        written[EMBED] = embedding
    file = rewrite(tmp_path, {prefix + name: array for name, array in written.items()})
    assert_same(read(file), random_tree(SIZES["pi05"]))


def test_what_exporters_leave_behind_is_skipped(written, tmp_path):
    written[JUNK] = np.ones((32, 10), np.float32)
    written["state_proj.weight"] = np.ones((10, 5), np.float32)
    written["state_proj.bias"] = np.ones(10, np.float32)
    written[f"{ROOT}.gemma_expert.model.norm.weight"] = np.ones(10, np.float32)
    written[f"{ROOT}.gemma_expert.model.layers.1.input_layernorm.weight"] = np.ones(10, np.float32)
    assert_same(read(rewrite(tmp_path, written)), random_tree(SIZES["pi05"]))


def test_lerobots_names_of_the_time_layers_are_taken(written, tmp_path):
    renamed = {name.replace("time_mlp", "action_time_mlp"): a for name, a in written.items()}
    assert renamed.keys() != written.keys()
    assert_same(read(rewrite(tmp_path, renamed)), random_tree(SIZES["pi05"]))


def test_names_of_older_transformers_are_taken(written, tmp_path):
    spellings = (
        ("paligemma.model.language_model.", "paligemma.language_model.model."),
        ("paligemma.lm_head.", "paligemma.language_model.lm_head."),
        ("paligemma.model.vision_tower.", "paligemma.vision_tower."),
        ("paligemma.model.multi_modal", "paligemma.multi_modal"),
    )
    old = written
    for new, before in spellings:
        old = {name.replace(new, before): array for name, array in old.items()}
    assert len(set(old) - set(written)) > 50
    assert_same(read(rewrite(tmp_path, old)), random_tree(SIZES["pi05"]))


def test_a_tensor_under_two_spellings_is_refused(written, tmp_path):
    written["model.action_in_proj.bias"] = written["action_in_proj.bias"]
    with pytest.raises(CheckpointError, match=r"action_in_proj.bias and .* are the same one"):
        lazy_leaves(rewrite(tmp_path, written))


def test_every_missing_tensor_is_an_error_that_names_it(written, tmp_path):
    for name in written:
        if name == f"{ROOT}.gemma_expert.model.norm.dense.weight":
            continue  # by which pi0.5 is known: without it this is a pi0 that lacks a lot
        rest = {other: array for other, array in written.items() if other != name}
        with pytest.raises(CheckpointError, match=f"missing tensor {name}"):
            lazy_leaves(rewrite(tmp_path, rest))


def test_a_missing_layer_is_an_error(written, tmp_path):
    rest = {name: a for name, a in written.items() if "language_model.layers.1." not in name}
    with pytest.raises(CheckpointError, match=r"missing tensors .*language_model\.layers\.1\."):
        lazy_leaves(rewrite(tmp_path, rest))


@pytest.mark.parametrize("extra", ["value_head.weight", "time_mlp_in.lora_a"])
def test_an_unexpected_tensor_is_an_error_that_names_it(extra, written, tmp_path):
    with pytest.raises(CheckpointError, match=f"unexpected tensor {extra}"):
        lazy_leaves(rewrite(tmp_path, written | {extra: np.zeros(3, np.float32)}))


def test_a_mis_shaped_tensor_is_an_error_with_both_shapes(written, tmp_path):
    written["time_mlp_in.bias"] = np.zeros(9, np.float32)
    expected = r"mis-shaped tensor time_mlp_in.bias \(shape \(9,\), expected \(10,\)\)"
    with pytest.raises(CheckpointError, match=expected):
        lazy_leaves(rewrite(tmp_path, written))


def test_a_tensor_of_integers_is_refused(written, tmp_path):
    written["time_mlp_in.bias"] = np.zeros(10, np.int32)
    with pytest.raises(CheckpointError, match=r"tensor time_mlp_in.bias is I32, expected one of"):
        lazy_leaves(rewrite(tmp_path, written))


def test_layers_of_different_types_become_the_wider_one(written, tmp_path):
    name = f"{ROOT}.paligemma.model.language_model.layers.1.input_layernorm.weight"
    mixed = {n: a if n == name else a.astype(BF16) for n, a in written.items()}
    leaves = read(rewrite(tmp_path, mixed))
    scale = leaves["params", "PaliGemma", "llm", "layers", "pre_attention_norm", "scale"]
    assert scale.dtype == np.float32
    np.testing.assert_array_equal(scale[1], written[name])
    assert leaves["params", "time_mlp_in", "bias"].dtype == BF16


def test_an_unknown_vision_tower_needs_its_heads_named(written, tmp_path):
    file = rewrite(tmp_path, written)
    (file.parent / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r'8 wide has; add "vision_heads" to the config.json'):
        lazy_leaves(file)
    (file.parent / "config.json").write_text('{"vision_heads": "many"}')
    with pytest.raises(CheckpointError, match="vision_heads is 'many', not a count"):
        lazy_leaves(file)
    (file.parent / "config.json").write_text("[")
    with pytest.raises(CheckpointError, match=r"config.json is not a JSON object"):
        lazy_leaves(file)


@pytest.mark.parametrize("cut", [0, 4, 8, 100, -1])
def test_a_truncated_file_is_refused(cut, written, tmp_path):
    file = rewrite(tmp_path, written)
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(CheckpointError, match=r"model.safetensors"):
        lazy_leaves(file)


@pytest.mark.parametrize(
    "header",
    [
        b"{",
        b"[]",
        b'{"a": 1}',
        b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, -4]}}',
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}',
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "shape": ["x"], "data_offsets": [0, 4]}}',
        b'{"__metadata__": 3}',
        b'{"a": {"dtype": "F32", "shape": [true], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "shape": "1", "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": ["F32"], "shape": [1], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "shape": [Infinity], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, NaN]}}',
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 1e400]}}',
        b"[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_a_broken_header_is_refused(header, tmp_path):
    file = tmp_path / "model.safetensors"
    file.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    with pytest.raises(CheckpointError, match=r"model.safetensors"):
        lazy_leaves(file)


def test_sizes_of_thousands_of_digits_are_refused_before_they_are_multiplied(tmp_path):
    sizes = ",".join(["9" * 4000] * 40)
    header = f'{{"a": {{"dtype": "F32", "shape": [{sizes}], "data_offsets": [0, 8]}}}}'.encode()
    file = tmp_path / "model.safetensors"
    file.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    with pytest.raises(CheckpointError, match="not sizes") as refused:
        lazy_leaves(file)
    assert len(str(refused.value)) < 500


@pytest.fixture(scope="module")
def whole_file(tmp_path_factory):
    file = tmp_path_factory.mktemp("whole") / "model.safetensors"
    write_safetensors(file, random_tree(SIZES["pi05"]))
    return file


@given(data=st.data())
@settings(max_examples=int(os.environ.get("FUZZ_EXAMPLES", "150")), deadline=None)
def test_whatever_a_header_says_is_read_or_refused(data, whole_file):
    content = bytearray(whole_file.read_bytes())
    end = 8 + int.from_bytes(content[:8], "little")
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, end - 1))
        length = data.draw(st.integers(0, 6))
        # digits keep it JSON, and lie about sizes and places
        digits = st.text("0123456789-", min_size=length, max_size=length).map(str.encode)
        content[place : place + length] = data.draw(
            digits | st.binary(min_size=length, max_size=length)
        )
    file = whole_file.with_name("mutated.safetensors")
    file.write_bytes(content)
    with contextlib.suppress(CheckpointError):
        for leaf in lazy_leaves(file).values():
            assert leaf.read().shape == leaf.shape


def test_a_header_longer_than_the_file_is_refused(tmp_path):
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"\xff" * 16)
    with pytest.raises(CheckpointError, match="is not a safetensors file: its header of"):
        lazy_leaves(file)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"cannot read .*nowhere: No such file"):
        lazy_leaves(tmp_path / "nowhere")


def test_half_a_model_is_not_written(tmp_path):
    tree = random_tree(SIZES["pi05"])
    del tree["params", "time_mlp_in", "bias"]
    with pytest.raises(CheckpointError, match="missing tensor params/time_mlp_in/bias"):
        write_safetensors(tmp_path / "model.safetensors", tree)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"old")

    def fail(dtype, part):
        raise CheckpointError("the disk is gone")

    tree = random_tree(SIZES["pi05"])
    path = ("params", "time_mlp_in", "bias")
    tree[path] = LazyLeaf(tree[path].shape, tree[path].dtype, fail, 1)
    with pytest.raises(CheckpointError, match="the disk is gone"):
        write_safetensors(file, tree)
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def test_either_layout_of_a_checkpoint_is_found(data, tiny_checkpoint, tmp_path):
    assert layout.find_layout(tiny_checkpoint) == "orbax"
    assert layout.find_layout(data / "tiny_pi05_torch") == "safetensors"
    write_safetensors(tmp_path / "model.safetensors", random_tree(SIZES["pi0"]))
    assert_same(layout.read_leaves(tmp_path), random_tree(SIZES["pi0"]))


def test_a_directory_of_neither_layout_says_what_it_is(tiny_checkpoint, tmp_path):
    with pytest.raises(CheckpointError, match=r"has neither params/ nor .*: it has nothing"):
        layout.find_layout(tmp_path)
    (tmp_path / "9999" / "params").mkdir(parents=True)
    (tmp_path / "20000" / "params").mkdir(parents=True)
    with pytest.raises(CheckpointError, match=r"it holds checkpoints, such as .*/20000"):
        layout.find_layout(tmp_path)
    with pytest.raises(CheckpointError, match="it is the params directory itself, give"):
        layout.find_layout(tiny_checkpoint / "params")
    with pytest.raises(CheckpointError, match="no such checkpoint directory"):
        layout.find_layout(tmp_path / "nowhere")
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(CheckpointError, match="is a file, give the directory that it is in"):
        layout.find_layout(tmp_path / "model.safetensors")


MEASURE = """
import sys
from pathlib import Path
from openpi_flash_models.checkpoints.layout import read_leaves
def peak():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024
before = peak()
tree = read_leaves(Path(sys.argv[1]))
print(peak() - before, sum(leaf.nbytes for leaf in tree.values()))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("kind", ["orbax", "safetensors"])
def test_reading_peaks_at_little_more_than_the_tensors(kind, tmp_path):
    big = ModelShape(
        "pi05",
        **(TINY | {"width": 512, "depth": 4, "mlp": 4096, "vocabulary": 48_000}),
        expert_width=256,
        expert_mlp=512,
        action_dim=32,
    )
    if kind == "orbax":
        orbax.write_leaves(tmp_path / "params", random_tree(big, BF16))
    else:
        write_safetensors(tmp_path / "model.safetensors", random_tree(big, BF16))
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, tmp_path], capture_output=True, text=True, check=True
    )
    peak, size = map(int, done.stdout.split())
    assert size > 95e6
    # a library's own threads and tables weigh more on this small file than on a real one
    assert peak <= 1.4 * size
