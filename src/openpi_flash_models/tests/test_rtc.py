"""Real-time chunking: the formulas, against their own words, and inside the compiled program."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from openpi_flash_models.actions.rtc import (
    Guidance,
    RtcControls,
    guidance_of,
    no_guidance,
    prefix_weights,
)
from openpi_flash_models.jax_models import prefix, suffix
from openpi_flash_models.jax_models.flow import guided_velocity
from openpi_flash_models.model.inputs import ModelInputs

HORIZON, WIDTH = 6, 4


def test_weights_are_one_on_frozen_steps_and_fall_to_zero():
    linear = prefix_weights(2, 5, 8, "linear")
    np.testing.assert_allclose(linear, [1, 1, 0.75, 0.5, 0.25, 0, 0, 0])
    curved = linear * (np.exp(linear) - 1) / (np.e - 1)
    np.testing.assert_allclose(prefix_weights(2, 5, 8, "exp"), curved)
    np.testing.assert_array_equal(prefix_weights(2, 5, 8, "ones"), [1] * 5 + [0] * 3)
    np.testing.assert_array_equal(prefix_weights(2, 5, 8, "zeros"), [1] * 2 + [0] * 6)
    # more frozen steps than known ones: what is known is frozen
    np.testing.assert_array_equal(prefix_weights(7, 3, 8, "exp"), [1] * 3 + [0] * 5)


@pytest.mark.parametrize("schedule", ["exp", "linear"])
def test_weights_never_rise(schedule):
    for total in (8, 33):  # 33: more than one vector register of any processor
        for start in range(total + 1):
            for end in range(total + 1):
                weights = prefix_weights(start, end, total, schedule)
                assert (np.diff(weights) <= 0).all()
                assert ((weights >= 0) & (weights <= 1)).all()
                assert (weights[: min(start, end)] == 1).all()


def test_an_earlier_chunk_pulls_where_it_is_known_and_nowhere_else():
    known = np.arange(8.0).reshape(4, 2)
    controls = RtcControls(known, delay=1, execution_horizon=3)
    guidance = guidance_of(known, controls, "linear", horizon=HORIZON, action_dim=WIDTH)
    np.testing.assert_array_equal(guidance.target[0, :4, :2], known)
    assert not guidance.target[0, 4:].any()
    assert not guidance.target[0, :, 2:].any()
    np.testing.assert_allclose(guidance.weight[0, :, 0], prefix_weights(1, 3, HORIZON, "linear"))
    assert not guidance.weight[0, :, 2:].any()
    assert guidance.frozen[0].tolist() == [True] + [False] * 5
    free = guidance_of(known, RtcControls(known, 1), "ones", horizon=HORIZON, action_dim=WIDTH)
    assert free.weight[0, :, 0].tolist() == [1, 1, 1, 1, 0, 0]  # all that is known


def test_a_gripper_is_not_pulled():
    known = np.ones((4, 3))
    controls = RtcControls(known, delay=1, execution_horizon=3)
    size = {"horizon": HORIZON, "action_dim": WIDTH}
    guidance = guidance_of(known, controls, "linear", **size, grippers=(1,))
    assert not guidance.weight[0, :, 1].any()
    others = guidance_of(known, controls, "linear", **size).weight[0][:, [0, 2]]
    np.testing.assert_array_equal(guidance.weight[0][:, [0, 2]], others)


def smooth_flow(x):
    """A velocity whose actions depend on each other."""
    matrix = jnp.asarray(np.random.default_rng(3).normal(0, 0.3, (WIDTH, WIDTH)))
    mixed = jnp.tanh(x @ matrix + jnp.roll(x, 1, axis=1))
    return mixed * 1.3


def papers_velocity(x, time, guidance, beta, jacobian_of):
    """The paper's rule in its own time tau = 1 - t, in float64; its velocity is minus openpi's.

    x1 = x + (1 - tau) v;  v' = v + min(beta, (1 - tau) / tau / r2) J^T W (Y - x1),
    r2 = (1 - tau)^2 / (tau^2 + (1 - tau)^2).
    """
    tau = 1.0 - time
    v = -np.asarray(smooth_flow(x), np.float64)
    error = guidance.weight * (guidance.target - (np.asarray(x) + (1 - tau) * v))
    pull = (jacobian_of(x, time).T @ error.reshape(-1)).reshape(x.shape)
    r2 = (1 - tau) ** 2 / (tau**2 + (1 - tau) ** 2)
    strength = beta if tau == 0 else min(beta, (1 - tau) / tau / r2)
    return -(v + strength * pull)


def identity(x, _):
    return np.eye(x.size)


def whole_jacobian(x, time):
    """d (x - t v(x)) / d x, column by column, forwards."""
    return np.asarray(
        jax.jacfwd(lambda flat: flat - time * smooth_flow(flat.reshape(x.shape)).reshape(-1))(
            jnp.asarray(x).reshape(-1)
        )
    )


@pytest.mark.parametrize("time", [1.0, 0.9, 0.5, 0.1])
@pytest.mark.parametrize(
    ("full", "jacobian_of"), [(False, identity), (True, whole_jacobian)], ids=["identity", "vjp"]
)
def test_the_pull_is_the_papers(full, jacobian_of, time):
    generator = np.random.default_rng(7)
    x = generator.normal(size=(1, HORIZON, WIDTH)).astype(np.float32)
    target = generator.normal(size=x.shape).astype(np.float32)
    weight = np.broadcast_to(prefix_weights(2, 4, HORIZON, "exp")[None, :, None], x.shape).astype(
        np.float32
    )
    guidance = Guidance(target, weight, np.zeros((1, HORIZON), bool))
    for beta in (0.5, 5.0):
        ours = guided_velocity(
            smooth_flow, jnp.asarray(x), jnp.float32(time), guidance, beta, full=full
        )
        expected = papers_velocity(x, time, guidance, beta, jacobian_of)
        np.testing.assert_allclose(ours, expected, rtol=2e-4, atol=2e-5)


@pytest.fixture(scope="module")
def inputs():
    generator = np.random.default_rng(0)
    return ModelInputs(
        images=generator.integers(0, 256, (2, 1, 224, 224, 3)).astype(np.uint8),
        image_mask=np.ones((2, 1), bool),
        tokens=generator.integers(3, 60, (2, 5)).astype(np.int32),
        token_mask=np.ones((2, 5), bool),
        state=generator.normal(size=(2, 4)).astype(np.float32),
    )


@pytest.fixture(scope="module")
def noise():
    return np.random.default_rng(1).normal(size=(2, HORIZON, WIDTH)).astype(np.float32)


@pytest.fixture(scope="module")
def guidance():
    """The first row goes on from an earlier chunk, the second one has none."""
    earlier = np.random.default_rng(2).normal(size=(5, 3))
    one = guidance_of(earlier, RtcControls(earlier, 2, 2), "exp", horizon=HORIZON, action_dim=WIDTH)
    none = no_guidance(1, HORIZON, WIDTH)
    names = ("target", "weight", "frozen")
    return Guidance(*(np.concatenate([getattr(one, name), getattr(none, name)]) for name in names))


@pytest.fixture(scope="module")
def call(inputs, noise, guidance):
    return inputs, noise, guidance


@pytest.fixture(scope="module")
def plain(micro, inputs, noise):
    return {kind: micro(kind).act(inputs, noise, 3) for kind in ("pi0", "pi05")}


def step_by_step(model, call, steps, full):
    """The same call as a loop in Python, with the pull written out."""
    (arch, weights), (inputs, noise, guidance) = model, call
    tokens, valid = prefix.embed_prefix(arch, weights, inputs)
    _, read = prefix.run_prefix(arch, weights, tokens, valid, jnp.zeros((2, 0), jnp.int32))
    context = suffix.context_of(arch, weights, read, jnp.asarray(inputs.state))

    @jax.jit
    def flow(x, time):
        now = suffix.at_time(suffix.time_features(arch, weights, time[None]), jnp.int32(0))
        return suffix.velocity(arch, weights, context, x, now)

    @jax.jit
    def pulled(x, time, error):
        return jax.vjp(lambda x: x - time * flow(x, time), x)[1](error)[0] if full else error

    x, time = jnp.asarray(noise), np.float32(1.0)
    for _ in range(steps):
        v = flow(x, time)
        pull = pulled(x, time, guidance.weight * (guidance.target - (x - time * v)))
        bound = np.inf if time == 1 else (time**2 + (1 - time) ** 2) / (time * (1 - time))
        x = x - (v - min(5.0, bound) * pull) / steps
        time = np.float32(time - 1.0 / steps)
    return np.asarray(x)


@pytest.mark.parametrize("method", ["identity", "vjp"])
def test_the_compiled_program_pulls_in_every_step(method, micro, call, plain):
    model, (inputs, noise, guidance) = micro("pi05"), call
    actions = model.act(inputs, noise, 3, guidance=guidance, method=method)
    expected = step_by_step(model, call, 3, full=method == "vjp")
    np.testing.assert_allclose(actions, expected, atol=1e-5)
    assert np.abs(actions[0] - plain["pi05"][0]).max() > 0.1
    np.testing.assert_allclose(actions[1], plain["pi05"][1], atol=1e-6)  # its neighbour's affair


def test_the_pull_brings_frozen_steps_to_the_earlier_chunk(micro, call):
    inputs, noise, guidance = call

    def distance(actions):
        return np.abs(actions[0, :2, :3] - guidance.target[0, :2, :3]).mean()

    guided = micro("pi05").act(inputs, noise, 10, guidance=guidance)
    free = micro("pi05").act(inputs, noise, 10)
    assert distance(guided) < 0.2 * distance(free)


@pytest.mark.parametrize("kind", ["pi0", "pi05"])
def test_known_steps_stay_what_they_are_and_are_seen_as_clean(kind, micro, call, plain):
    inputs, noise, guidance = call
    actions = micro(kind).act(inputs, noise, 3, guidance=guidance, method="prefix")
    np.testing.assert_array_equal(actions[0, :2], guidance.target[0, :2])
    assert np.abs(actions[0, 2:] - plain[kind][0, 2:]).max() > 1e-3
    np.testing.assert_allclose(actions[1], plain[kind][1], atol=1e-6)
