"""The tree of a checkpoint, arranged for programs and back, and the seam of each layer."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from micro import micro_shape, random_leaves

from openpi_flash_models.checkpoints.leaves import nest
from openpi_flash_models.checkpoints.lora import merge_lora
from openpi_flash_models.jax_models import prefix, suffix
from openpi_flash_models.jax_models.arch import Arch
from openpi_flash_models.jax_models.arrange import arrange, restore
from openpi_flash_models.model.inputs import ModelInputs
from openpi_flash_models.model.rearrangements import ALL_OFF, ALL_ON, Layout

UNFUSED = Layout(fuse_projections=False, unroll_layers=False)
LAYOUTS = st.builds(Layout, fuse_projections=st.booleans(), unroll_layers=st.booleans())
SHAPES = st.builds(
    micro_shape,
    st.sampled_from(["pi0", "pi05", "pi0_fast"]),
    depth=st.integers(1, 3),
    vision_depth=st.integers(1, 3),
    heads=st.sampled_from([2, 4]),
    key_heads=st.integers(1, 2),
    width=st.sampled_from([8, 16]),
)


def flat(tree):
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree.leaves_with_path(tree)}


def check_equal(ours, theirs):
    ours, theirs = flat(ours), flat(theirs)
    assert ours.keys() == theirs.keys()
    for name, leaf in ours.items():
        np.testing.assert_array_equal(np.asarray(leaf), np.asarray(theirs[name]), err_msg=name)
        assert leaf.dtype == theirs[name].dtype


@given(shape=SHAPES, layout=LAYOUTS, xp=st.sampled_from([np, jnp]), seed=st.integers(0, 9))
@settings(max_examples=25, deadline=None)
def test_the_round_trip_is_exact(shape, layout, xp, seed):
    tree = nest(random_leaves(shape, seed))["params"]
    given_tree = jax.tree.map(xp.asarray, tree)
    check_equal(restore(arrange(given_tree, shape, layout, xp), shape, xp), tree)


def test_the_round_trip_keeps_adapters(tiny_leaves):
    leaves = tiny_leaves("lora")
    tree, shape = nest(leaves)["params"], micro_shape("pi05", heads=8, head_width=16, depth=3)
    arranged = arrange(tree, shape, UNFUSED, np)
    assert set(arranged["language"]["layers"]["lora"]) == {"q", "kv", "out", "gating", "down"}
    check_equal(restore(arranged, shape, np), tree)


def test_adapters_cannot_be_fused(tiny_leaves):
    tree = nest(tiny_leaves("lora"))["params"]
    with pytest.raises(ValueError, match="merge the adapters first"):
        arrange(tree, micro_shape("pi05"), Layout(), np)


def test_adapters_are_merged_the_same_in_both_libraries(tiny_leaves):
    leaves = tiny_leaves("lora")
    traced = jax.jit(lambda given: nest(merge_lora(given, "traced", xp=jnp)))(leaves)
    for name, leaf in flat(nest(merge_lora(leaves, "numpy"))).items():
        np.testing.assert_allclose(leaf, flat(traced)[name], atol=1e-6, err_msg=name)


@pytest.fixture
def inputs():
    generator = np.random.default_rng(0)
    return ModelInputs(
        images=generator.integers(0, 256, (2, 1, 224, 224, 3)).astype(np.uint8),
        image_mask=np.array([[True], [True]]),
        tokens=generator.integers(3, 60, (2, 6)).astype(np.int32),
        token_mask=np.arange(6)[None] < np.array([[4], [6]]),
    )


@partial(jax.jit, static_argnums=0)
def read_all(arch, weights, inputs, **mask):
    """Outputs of all tokens of the prefix."""
    tokens, valid = prefix.embed_prefix(arch, weights, inputs)
    hidden, _ = prefix.run_prefix(arch, weights, tokens, valid, None, **mask)
    return hidden


@pytest.mark.parametrize("unrolled", [False, True])
def test_the_hook_of_a_layer_makes_its_weights(unrolled, inputs):
    shape = micro_shape("pi05", vision_depth=2)
    tree = nest(random_leaves(shape))["params"]
    layout = Layout(fuse_projections=False, unroll_layers=unrolled)
    weights = arrange(jax.tree.map(jnp.asarray, tree), shape, layout, jnp)
    plain = read_all(Arch(shape, ALL_OFF.graph), weights, inputs)

    def halved(layer):
        return jax.tree.map(lambda w: w / 2, layer)

    doubled = {
        part: weights[part] | {"layers": jax.tree.map(lambda w: w * 2, weights[part]["layers"])}
        for part in ("vision", "language", "expert")
    }
    for remat in (False, True):
        arch = Arch(shape, ALL_OFF.graph, layer=halved, remat=remat)
        hooked = read_all(arch, weights | doubled, inputs)
        np.testing.assert_allclose(hooked, plain, atol=1e-6)
    assert np.abs(read_all(Arch(shape, ALL_OFF.graph), weights | doubled, inputs) - plain).max() > 1


@pytest.mark.parametrize("layout", [UNFUSED, Layout()])
def test_gradients_are_the_same_computed_again_and_kept(layout, inputs):
    shape = micro_shape("pi05")
    tree = nest(random_leaves(shape))["params"]

    def gradient(remat):
        arch = Arch(shape, ALL_ON.graph, remat=remat)

        def total(tree):
            return jnp.square(read_all(arch, arrange(tree, shape, layout, jnp), inputs)).sum()

        return jax.jit(jax.grad(total))(jax.tree.map(jnp.asarray, tree))

    kept, again = flat(gradient(False)), flat(gradient(True))
    for name, leaf in kept.items():
        np.testing.assert_allclose(leaf, again[name], rtol=1e-4, atol=1e-4, err_msg=name)


def test_gradients_of_a_loop_are_not_carried_through_it(inputs):
    """Weights are inputs of the scan, so its backward pass writes each layer's gradient once."""
    shape = micro_shape("pi05", depth=3)
    tree = jax.tree.map(jnp.asarray, nest(random_leaves(shape))["params"])
    arch = Arch(shape, dataclasses.replace(ALL_ON.graph, keys_only_last_layer=False))

    def total(tree):
        return jnp.square(read_all(arch, arrange(tree, shape, UNFUSED, jnp), inputs)).sum()

    gating = (shape.depth, 2, shape.width, shape.mlp)
    scans = [e for e in equations(jax.make_jaxpr(jax.grad(total))(tree).jaxpr) if is_scan(e)]
    assert scans
    for scan in scans:
        constants, carries = scan.params["num_consts"], scan.params["num_carry"]
        carried = scan.invars[: constants + carries]
        assert gating not in [variable.aval.shape for variable in carried]


def is_scan(equation):
    return equation.primitive.name == "scan"


def equations(program):
    for equation in program.eqns:
        yield equation
        for value in jax.tree.leaves(list(equation.params.values())):
            inside = getattr(value, "jaxpr", value)
            if hasattr(inside, "eqns"):
                yield from equations(inside)


def test_a_causal_token_is_not_seen_by_earlier_ones(inputs):
    shape = micro_shape("pi0_fast")
    tree = nest(random_leaves(shape))["params"]
    weights = arrange(jax.tree.map(jnp.asarray, tree), shape, Layout(), jnp)
    arch = Arch(shape, ALL_ON.graph)
    valid = jnp.concatenate([jnp.ones((2, 16), bool), inputs.token_mask], axis=1)
    causal = np.zeros(valid.shape, bool)
    causal[:, -3:] = True
    mask = prefix.block_mask(valid, causal)

    def read(inputs):
        return np.asarray(read_all(arch, weights, inputs, mask=mask))

    before = read(inputs)
    changed = inputs.tokens.copy()
    changed[:, -2] += 1
    after = read(dataclasses.replace(inputs, tokens=changed))
    np.testing.assert_array_equal(before[:, :-2], after[:, :-2])
    assert (np.abs(before[1, -2:] - after[1, -2:]).max(axis=-1) > 1e-3).all()
    everywhere = read_all(arch, weights, dataclasses.replace(inputs, tokens=changed))
    assert np.abs(everywhere[:, 0] - read_all(arch, weights, inputs)[:, 0]).max() > 1e-3


def test_block_masks_are_openpis():
    valid = jnp.array([[True, True, True, True, False]])
    causal = jnp.array([[False, False, True, True, False]])
    expected = np.array(
        [
            [1, 1, 0, 0, 0],
            [1, 1, 0, 0, 0],
            [1, 1, 1, 0, 0],
            [1, 1, 1, 1, 0],
            [0, 0, 0, 0, 0],
        ],
        bool,
    )
    np.testing.assert_array_equal(prefix.block_mask(valid, causal)[0], expected)


@pytest.mark.parametrize("kind", ["pi0", "pi05"])
def test_each_row_and_each_action_can_have_a_time_of_its_own(kind, micro, inputs):
    arch, weights = micro(kind)
    if kind == "pi0":
        inputs = dataclasses.replace(inputs, state=np.ones((2, 4), np.float32))
    x = jnp.asarray(np.random.default_rng(1).normal(size=(2, 3, 4)), jnp.float32)

    @jax.jit
    def flow(index):
        tokens, valid = prefix.embed_prefix(arch, weights, inputs)
        _, read = prefix.run_prefix(arch, weights, tokens, valid, jnp.zeros((2, 0), jnp.int32))
        context = suffix.context_of(arch, weights, read, inputs.state)
        features = suffix.time_features(arch, weights, jnp.array([0.9, 0.2]))
        return suffix.velocity(arch, weights, context, x, suffix.at_time(features, index))

    of_rows = flow(jnp.array([0, 1]))
    np.testing.assert_allclose(of_rows[0], flow(0)[0], atol=1e-6)
    np.testing.assert_allclose(of_rows[1], flow(1)[1], atol=1e-6)
    of_actions = flow(jnp.array([[0, 0, 0], [1, 1, 1]]))
    np.testing.assert_allclose(of_actions, of_rows, atol=1e-6)
    mixed = flow(jnp.array([[0, 1, 0], [1, 1, 1]]))
    assert np.abs(mixed[0] - of_rows[0]).max() > 1e-4
    np.testing.assert_allclose(mixed[1], of_rows[1], atol=1e-6)
