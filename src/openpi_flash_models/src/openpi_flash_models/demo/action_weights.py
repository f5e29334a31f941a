"""Weights of a pi0.5 that denoises to smooth actions, written by formula instead of trained.

Random weights would give white noise for actions. These give a smooth chunk that starts where the
arm is and moves on as an oscillator does, pushed a little by the pictures and the words. The model
is unchanged: everything below is the content of ordinary tensors. Small deterministic noise is
added to each, so that no tensor is constant.

The result, with s the normalised state (from the prompt's bin numbers) and h the step:

    actions(h) = s + ramp(h) * delta              ramp: 0 at h = 0, about 1 at the last step
    delta      = G(x) - s - R(y), G(y) - s + R(x)   for the joint pairs (x, y), bounded
               + content of the pictures and words  (a few per cent)

G and R are saturating curves, so that ``s + delta`` stays inside the box [-1, 1] and repeated
chunks settle on a limit cycle: the arm keeps moving and never leaves its range.

How the layers compute it.

*Language expert, layer 0.* The newline before "Action" occurs once in a prompt: it is the anchor.
The seven numbers of the state stand right before it, each one token, whose embedding row holds
s, G(s), R(s) and a curve for the gripper. Head j of the anchor attends to the number j tokens
away: its query makes the logit ``sum_i cos(f_i (distance - distance_j))`` over the three fastest
rotary frequencies f_i, and only numbers have keys there. Its out-projection adds to the anchor's
``state`` and ``delta`` coordinates. The last head averages what pictures and words hold.

*Action expert, layer 1.* Every action attends to the anchor (by the slowest frequency, so alike
from any distance). Head 0 reads s. Head 1 weighs the anchor against all other tokens: its logit has
a sine of the distance (frequency 1/31.6 per step), so its weight on delta grows smoothly with h.
Both are *subtracted* from the action's residual stream.

*Flow.* The stream of an action is its noisy value x in 32 coordinates and a large constant in 32
others, so that the root mean square is the constant's and the last norm is linear in x. The norm's
adaptive scale is fitted to 1/t over the time features, and the out-projection undoes the constant's
division. So the velocity is (x - actions) / t, and Euler's method lands on the actions from any
noise, in any number of steps.
"""

from __future__ import annotations

import numpy as np

from openpi_flash_models.demo import vision_weights
from openpi_flash_models.demo.tokenizer import NEWLINE, NUMBERS, WORD_START, WORDS, pieces
from openpi_flash_models.model.shape import ModelShape, expected_shapes

Weights = dict[str, np.ndarray]

SIZES = ModelShape(
    kind="pi05",
    patch=14,
    vision_width=32,
    vision_depth=2,
    vision_heads=2,
    vision_mlp=64,
    width=64,
    depth=2,
    mlp=64,
    heads=8,
    key_heads=1,
    head_width=16,
    vocabulary=len(pieces()),
    expert_width=64,
    expert_mlp=64,
    action_dim=32,
)
JOINTS = 7
GRIPPER = 6
HORIZON = 50
# Joints that circle around each other: pan and lift, elbow and wrist pitch, yaw and roll.
PAIRS = ((0, 1), (2, 3), (4, 5))

# Coordinates of the language expert's residual stream (width 64).
ANCHOR, NUMBER, WORD, PICTURE = 0, 1, 2, 3
CURVES = slice(4, 8)  # of a number token: s, G(s), R(s), gripper curve
CONTENT = slice(8, 16)  # of words and pictures
STATE = slice(16, 23)  # of the anchor
DELTA = slice(23, 30)  # of the anchor
FILL = 30  # brings every embedding row to length one
OTHER = 31  # marks every token that is none of the four above
FREE = slice(32, 64)  # of words: nothing reads it

_STREAM = 8.0  # length of a normed vector = root of the width
_IN_NUMBER = 0.25  # scale of the curves in a number's embedding row
_IN_ANCHOR = 0.25  # scale of state and delta in the anchor's stream: small beside its length
_TOKENS_AFTER_ANCHOR = 3  # "Action", ":", " "
_LARGE = 20.0  # the constant in an action's stream

# Rotary frequencies of a head of 16: 10000 ** (-i / 8).
_FREQUENCIES = 10_000.0 ** (-np.arange(8) / 8)
_NEAR = (0, 1, 2)  # tell apart tokens some steps away
_RAMP, _AWAY, _EVERYWHERE = 3, 6, 7

_G_SLOPE, _G_BOUND = 3.0, 0.24
_R_SLOPE, _R_BOUND = 4.0, 0.55
# Off the middle of the box, where the demo starts: the middle must not be a point of rest.
_CENTRE = 0.1
_EDGE = 0.95  # what is read of a state at the edge of the box, so that actions stay inside
_CONTENT_PUSH = 0.13
# Valid tokens beside the anchor in a request of the demo: two cameras, some 25 words, 50 actions.
_OTHER_TOKENS = 585
# Pictures have many more tokens than words have: a weaker key makes up for it.
_PICTURE_TO_WORD = 0.75
_NOISE = 2e-4


def action_weights(seed: int = 5) -> Weights:
    """Every tensor by name (joined by slashes), float32."""
    rng = np.random.default_rng(seed)
    w = {
        name: _NOISE * rng.standard_normal(shape) for name, shape in expected_shapes(SIZES).items()
    }
    vision_weights.fill(w, SIZES, rng)
    _picture_tokens(w, rng)
    _word_tokens(w, rng)
    _read_numbers(w, rng)
    _show_anchor(w)
    _look_at_anchor(w)
    _flow(w)
    return {name: values.astype(np.float32) for name, values in w.items()}


def _picture_tokens(w: Weights, rng: np.random.Generator) -> None:
    kernel, bias = w["params/PaliGemma/img/head/kernel"], w["params/PaliGemma/img/head/bias"]
    kernel[:, CONTENT] += rng.standard_normal((SIZES.vision_width, 8)) / SIZES.vision_width**0.5
    bias[PICTURE] += 3.0


def _word_tokens(w: Weights, rng: np.random.Generator) -> None:
    table = w["params/PaliGemma/llm/embedder/input_embedding"]
    numbers = {WORD_START + str(number): number for number in NUMBERS}
    for row, piece in zip(table, pieces(), strict=True):
        if piece == NEWLINE:
            row[ANCHOR] = 0.98
        elif piece in numbers:
            # middle of the bin; what is below the range has a number of its own, -1
            s = np.clip((numbers[piece] + 0.5) / 128 - 1, -_EDGE, _EDGE)
            row[NUMBER] = 0.8
            row[CURVES] = _IN_NUMBER * _curves(s)
        else:
            row[FREE] = 0.5 * _unit(rng.standard_normal(32))
            if piece.lstrip(WORD_START) in WORDS:
                row[WORD] = 0.6
                row[CONTENT] = 0.5 * _unit(rng.standard_normal(8))
            else:
                row[OTHER] = 0.6
        row[FILL] = 0.0
        row[FILL] = np.sqrt(1 - np.square(row).sum())


def _curves(s: float) -> np.ndarray:
    growth = _CENTRE + _G_BOUND * np.tanh(_G_SLOPE * (s - _CENTRE) / _G_BOUND)
    rotation = _R_BOUND * np.tanh(_R_SLOPE * (s - _CENTRE) / _R_BOUND)
    return np.array([s, growth, rotation, 0.7 * np.tanh(4 * s)])


def _read_numbers(w: Weights, rng: np.random.Generator) -> None:
    """Layer 0 of the language expert: numbers, words and pictures into the anchor."""
    q, k, v, out = _attention(w, layer=0, expert="")
    sharpness, own = 30.0, _STREAM * 0.98
    k_near = 4.0
    for i in _NEAR:
        k[NUMBER, i] += k_near / (_STREAM * 0.8)
    k[WORD, _EVERYWHERE] += 4.0 / (_STREAM * 0.6)
    k[PICTURE, _EVERYWHERE] += 4.0 * _PICTURE_TO_WORD / _STREAM
    # Some patches draw more attention than others, so that small things in a picture count too.
    k[CONTENT, _EVERYWHERE] += 1.0 * rng.standard_normal(8) / _STREAM
    for joint in range(JOINTS):
        distance = (JOINTS - joint) + 1  # a ";" stands between
        for i in _NEAR:
            turned = sharpness * 4 / k_near * np.exp(-1j * _FREQUENCIES[i] * distance)
            q[joint, ANCHOR, i] += turned.real / own
            q[joint, ANCHOR, i + 8] += turned.imag / own
    q[7, ANCHOR, _EVERYWHERE] += 9.0 / own
    # Only the anchor averages: with this head all other tokens attend to the numbers instead.
    k[NUMBER, _AWAY] += 4.0 / (_STREAM * 0.8)
    for marker in (NUMBER, WORD, PICTURE, OTHER):
        q[7, marker, _AWAY] += 15.0 / (0.6 * _STREAM)

    v[CURVES, 0:4] += np.eye(4) / (_STREAM * _IN_NUMBER)
    v[CONTENT, 4:12] += np.eye(8) / (0.5 * _STREAM)
    s, growth, rotation, grip = np.arange(4)
    state, delta = np.arange(SIZES.width)[STATE], np.arange(SIZES.width)[DELTA]
    for joint in range(JOINTS):
        out[joint, s, state[joint]] += _IN_ANCHOR
        out[joint, s, delta[joint]] -= _IN_ANCHOR
    for x, y in PAIRS:
        out[x, growth, delta[x]] += _IN_ANCHOR
        out[y, growth, delta[y]] += _IN_ANCHOR
        out[y, rotation, delta[x]] -= _IN_ANCHOR
        out[x, rotation, delta[y]] += _IN_ANCHOR
    out[0, grip, delta[GRIPPER]] += _IN_ANCHOR
    push = np.stack([_unit(rng.standard_normal(8)) for _ in range(JOINTS)], axis=1)
    out[7, 4:12, DELTA] += _IN_ANCHOR * _CONTENT_PUSH * push


def _show_anchor(w: Weights) -> None:
    """Layer 1 of the language expert: keys and values of the anchor for the actions."""
    _, k, v, _ = _attention(w, layer=1, expert="")
    own = _STREAM * 0.98
    k[ANCHOR, _EVERYWHERE] += 4.0 / own
    k[ANCHOR, _RAMP] += 4.0 / own
    v[STATE, 0:7] += np.eye(7) / _IN_ANCHOR
    v[DELTA, 7:14] += np.eye(7) / _IN_ANCHOR


def _look_at_anchor(w: Weights) -> None:
    """Layer 1 of the action expert: subtract state + ramp * delta from every action's stream."""
    q, _, _, out = _attention(w, layer=1, expert="_1")
    constant = slice(32, 64)
    per_coordinate = 1 / (32 * 2**0.5)  # the constant's coordinates are 2 ** 0.5 each when normed
    q[0, constant, _EVERYWHERE] += 25.0 * per_coordinate

    steepness = 1.5
    middle = HORIZON / 2 + _TOKENS_AFTER_ANCHOR
    ramp = steepness * np.exp(-1j * (_FREQUENCIES[_RAMP] * middle + np.pi / 2))
    q[1, constant, _EVERYWHERE] += np.log(_OTHER_TOKENS) * per_coordinate
    q[1, constant, _RAMP] += ramp.real * per_coordinate
    q[1, constant, _RAMP + 8] += ramp.imag * per_coordinate

    steps = np.array([0, HORIZON - 1]) + _TOKENS_AFTER_ANCHOR + 1
    at_start, at_end = 1 / (1 + np.exp(-steepness * np.sin(_FREQUENCIES[_RAMP] * (steps - middle))))
    rise = at_end - at_start
    out[0, 0:7, 0:7] -= np.eye(7)
    out[0, 7:14, 0:7] += np.eye(7) * at_start / rise
    out[1, 7:14, 0:7] -= np.eye(7) / rise
    # Open the gate of this branch alone.
    w["params/PaliGemma/llm/layers/pre_attention_norm_1/Dense_0/bias"][1, 128:] += 1.0


def _flow(w: Weights) -> None:
    """In- and out-projection, time features, and 1/t as the scale of the last norm."""
    for name in ("action_in_proj", "action_out_proj"):
        w[f"params/{name}/kernel"] *= 0.1
        w[f"params/{name}/bias"] *= 0.1
    w["params/action_in_proj/kernel"][:, :32] += np.eye(32)
    w["params/action_in_proj/bias"][32:] += _LARGE
    root_mean_square = _LARGE * (32 / 64) ** 0.5
    w["params/action_out_proj/kernel"][:32] += np.eye(32) * root_mean_square
    # A constant may not leak into the actions, however small the noise in these weights.
    w["params/action_out_proj/kernel"][32:] -= w["params/action_out_proj/kernel"][32:].mean(axis=0)

    # Hinges over sin(pi t / 2), the slowest time feature; their corners lie densest near 0, where
    # 1/t is steepest.
    corners = np.geomspace(0.04, 2.0, 64)
    w["params/time_mlp_in/kernel"][31] -= 4.0 / corners
    w["params/time_mlp_in/bias"] += 4.0
    w["params/time_mlp_out/kernel"] += np.eye(64)

    times = np.geomspace(0.03, 1.0, 400)
    features = _embed_time(w, times)
    # Relative errors count: what is left of the noise is the product of (1 - dt * scale).
    design = np.concatenate([features, np.ones((len(times), 1))], axis=1) * times[:, None]
    target = (1 / times - 1) * times
    solution = np.linalg.solve(design.T @ design + 1e-7 * np.eye(65), design.T @ target)
    dense = "params/PaliGemma/llm/final_norm_1/Dense_0"
    w[f"{dense}/kernel"] *= 0.01
    w[f"{dense}/bias"] *= 0.01
    w[f"{dense}/kernel"][:, :64] += solution[:64, None]
    w[f"{dense}/bias"][:64] += solution[64]


def _embed_time(w: Weights, times: np.ndarray) -> np.ndarray:
    """The model's time features, as numpy."""
    periods = 4e-3 * 1000.0 ** np.linspace(0, 1, 32)
    angles = times[:, None] * (2 * np.pi / periods)
    x = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    for name in ("time_mlp_in", "time_mlp_out"):
        x = x @ w[f"params/{name}/kernel"] + w[f"params/{name}/bias"]
        x = x / (1 + np.exp(-x))
    return x


def _attention(
    w: Weights, *, layer: int, expert: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Views on the projections of one layer: q [N, D, H], k [D, H], v [D, H], out [N, H, D]."""
    attention = "params/PaliGemma/llm/layers/attn"
    kv = w[f"{attention}/kv_einsum{expert}/w"][layer, :, 0]
    q = w[f"{attention}/q_einsum{expert}/w"][layer]
    return q, kv[0], kv[1], w[f"{attention}/attn_vec_einsum{expert}/w"][layer]


def _unit(x: np.ndarray) -> np.ndarray:
    unit: np.ndarray = x / np.linalg.norm(x)
    return unit
