"""The PyTorch models as policies use them, and chunks that go on from earlier ones."""

import numpy as np
import pytest

from openpi_flash_models.actions.rtc import Guidance, RtcOptions, no_guidance
from openpi_flash_models.checkpoints.leaves import nest
from openpi_flash_models.model.inputs import ModelInputs
from openpi_flash_models.model.shape import check_tree

torch = pytest.importorskip("torch", reason="needs the torch extra")

from openpi_flash_models.torch_models.denoise import guidance_strength  # noqa: E402
from openpi_flash_models.torch_models.models import TorchActionModel  # noqa: E402

HORIZON, ACTIONS = 10, 32
KINDS = ("pi0", "pi05")


@pytest.fixture(scope="module")
def model_of(tiny_leaves):
    """Function of a kind and a method to a model."""

    def make(kind, method="identity", max_guidance=5.0):
        leaves = tiny_leaves(kind)
        rtc = RtcOptions(method=method, max_guidance=max_guidance)
        return TorchActionModel(nest(leaves)["params"], check_tree(leaves, kind), rtc=rtc)

    return make


@pytest.fixture(scope="module")
def asked():
    """One camera and eight words, so that a call is quick; and the noise."""
    generator = np.random.default_rng(0)
    inputs = ModelInputs(
        images=generator.integers(0, 256, (1, 1, 224, 224, 3), np.uint8),
        image_mask=np.ones((1, 1), bool),
        tokens=generator.integers(2, 2048, (1, 8)).astype(np.int32),
        token_mask=np.ones((1, 8), bool),
        state=generator.standard_normal((1, ACTIONS), dtype=np.float32),
    )
    return inputs, generator.standard_normal((1, HORIZON, ACTIONS), dtype=np.float32)


def pulled_to(target, weight, frozen=0):
    return Guidance(
        np.full((1, HORIZON, ACTIONS), target, np.float32),
        np.broadcast_to(np.asarray(weight, np.float32), (1, HORIZON, ACTIONS)).copy(),
        np.arange(HORIZON)[None] < frozen,
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["identity", "vjp"])
def test_a_weight_of_nothing_changes_nothing(kind, method, model_of, asked):
    model = model_of(kind, method)
    plain = model.sample(*asked, 3, no_guidance(1, HORIZON, ACTIONS))
    barely = model.sample(*asked, 3, pulled_to(0.5, 1e-12))
    np.testing.assert_allclose(barely, plain, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["identity", "vjp"])
def test_a_pull_brings_the_chunk_nearer_to_the_earlier_one(kind, method, model_of, asked):
    model = model_of(kind, method)
    plain = model.sample(*asked, 10, no_guidance(1, HORIZON, ACTIONS))
    pulled = model.sample(*asked, 10, pulled_to(0.5, 1.0))
    assert np.abs(pulled - 0.5).mean() < 0.7 * np.abs(plain - 0.5).mean()


@pytest.mark.parametrize("kind", KINDS)
def test_actions_without_a_weight_go_their_own_way_more_than_those_with_one(kind, model_of, asked):
    model = model_of(kind)
    plain = model.sample(*asked, 10, no_guidance(1, HORIZON, ACTIONS))
    first_half = (np.arange(HORIZON) < 5)[:, None]
    pulled = model.sample(*asked, 10, pulled_to(0.5, first_half))
    moved = np.abs(pulled - plain)[0]
    assert moved[:5].mean() > 5 * moved[5:].mean()


@pytest.mark.parametrize("kind", KINDS)
def test_the_full_pull_is_the_gradient_of_the_weighted_error(kind, model_of, asked):
    """One step, where x1 = x - (v - w J^T e) and J^T e is found by finite differences."""
    inputs, noise = asked
    beta, weight, target = 0.25, 0.5, 0.5
    guided = model_of(kind, "vjp", beta).sample(inputs, noise, 1, pulled_to(target, weight))
    model = model_of(kind)
    free = no_guidance(1, HORIZON, ACTIONS)
    clean = model.sample(inputs, noise, 1, free)  # one step from t = 1 is what it believes in
    error = weight * (target - clean).astype(np.float64)
    towards = (guided - clean).astype(np.float64) / beta
    generator = np.random.default_rng(1)
    for _ in range(3):
        direction = generator.standard_normal(noise.shape).astype(np.float32)
        step = 1e-2 * direction
        ahead, behind = (model.sample(inputs, noise + s, 1, free) for s in (step, -step))
        slope = (error * (ahead.astype(np.float64) - behind) / 2e-2).sum()
        assert (towards * direction).sum() == pytest.approx(slope, rel=0.02, abs=0.02)


@pytest.mark.parametrize("kind", KINDS)
def test_frozen_actions_stay_what_they_are(kind, model_of, asked):
    model = model_of(kind, "prefix")
    frozen = model.sample(*asked, 3, pulled_to(0.5, 1.0, frozen=4))
    np.testing.assert_array_equal(frozen[0, :4], 0.5)
    plain = model.sample(*asked, 3, no_guidance(1, HORIZON, ACTIONS))
    assert np.abs(frozen[0, 4:] - plain[0, 4:]).max() > 1e-3


def test_the_strength_is_that_of_the_paper():
    # min(beta, (1 - tau) / tau * (tau^2 + (1 - tau)^2) / (1 - tau)^2), tau = 1 - t
    for time in (0.9, 0.5, 0.1):
        tau = 1 - time
        paper = (1 - tau) / tau * (tau**2 + (1 - tau) ** 2) / (1 - tau) ** 2
        assert guidance_strength(time, 100.0) == pytest.approx(paper)
    assert guidance_strength(1.0, 5.0) == 5.0
    assert guidance_strength(0.9, 5.0) == 5.0


def test_arrays_that_cannot_be_written_are_taken(model_of, asked):
    inputs, noise = asked
    noise = noise.copy()
    noise.flags.writeable = False
    inputs.images.flags.writeable = False
    actions = model_of("pi0").sample(inputs, noise, 1, no_guidance(1, HORIZON, ACTIONS))
    assert actions.shape == (1, HORIZON, ACTIONS)
    assert actions.dtype == np.float32
