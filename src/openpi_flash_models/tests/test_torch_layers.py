"""A decoder layer computes what it should, in few operations."""

import pytest

torch = pytest.importorskip("torch", reason="needs the torch extra")

from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from openpi_flash_models.torch_models import gemma  # noqa: E402

BATCH, LENGTH, BEFORE, WIDTH, HEADS, HEAD_WIDTH = 2, 5, 7, 24, 4, 8
MOST_OPERATIONS = 36


class Counting(TorchDispatchMode):
    """Counts what torch is asked to do."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += 1
        return func(*args, **(kwargs or {}))


@pytest.fixture(autouse=True)
def _without_gradients():
    with torch.no_grad():
        yield


def random_layer(*, key_heads=1, adaptive=False):
    generator = torch.Generator().manual_seed(0)
    layer = gemma.Layer(WIDTH, HEADS, key_heads, HEAD_WIDTH, 40, adaptive=adaptive)
    for parameter in layer.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * WIDTH**-0.5)
    return layer


def place_of(key_heads=1, batch=BATCH):
    """Behind ``BEFORE`` slots, of which the second row sees all but the first."""
    generator = torch.Generator().manual_seed(1)
    positions = BEFORE + torch.arange(LENGTH).expand(batch, -1)
    seen = torch.ones(batch, 1, 1, BEFORE + LENGTH, dtype=torch.bool)
    seen[1:, ..., 0] = False
    return gemma.Place(
        cache=torch.randn(batch, BEFORE + LENGTH, 2 * key_heads, HEAD_WIDTH, generator=generator),
        rotation=gemma.rotation_of(positions, HEADS, key_heads, HEAD_WIDTH),
        start=BEFORE,
        bias=gemma.bias_of(seen, torch.float32),
    )


def rows(batch=BATCH, seed=2):
    return torch.randn(batch * LENGTH, WIDTH, generator=torch.Generator().manual_seed(seed))


def half_turned(heads, positions):
    """RoPE as Gemma writes it: [T, heads, H] at positions [T], halves of a head as coordinates."""
    half = heads.shape[-1] // 2
    angles = positions[:, None, None] / 10_000 ** (torch.arange(half) / half)
    first, second = heads.split(half, dim=-1)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


@pytest.mark.parametrize("key_heads", [1, 2, 4])
def test_each_group_of_queries_attends_to_its_own_keys(key_heads):
    layer, place, h = random_layer(key_heads=key_heads), place_of(key_heads), rows()
    earlier = place.cache.clone()
    got = layer.attend(h, place).view(BATCH, LENGTH, HEADS, HEAD_WIDTH)
    apart = torch.argsort(gemma.interleaved(HEAD_WIDTH))
    made = (h @ layer.qkv).view(BATCH, LENGTH, HEADS + 2 * key_heads, HEAD_WIDTH)
    positions = torch.arange(BEFORE, BEFORE + LENGTH).float()
    for row in range(BATCH):
        turned = half_turned(made[row, :, : HEADS + key_heads][..., apart], positions)
        old_keys, old_values = earlier[row, :BEFORE].split(key_heads, dim=1)
        keys = torch.cat([old_keys[..., apart], turned[:, HEADS:]])[row:]  # the bias hides one
        values = torch.cat([old_values, made[row, :, HEADS + key_heads :]])[row:]
        for head in range(HEADS):
            group = head // (HEADS // key_heads)
            weights = torch.softmax(turned[:, head] @ keys[:, group].T / HEAD_WIDTH**0.5, dim=-1)
            torch.testing.assert_close(got[row, :, head], weights @ values[:, group])


@pytest.mark.parametrize("scale", [1.0, 1e-4])
def test_the_norm_is_the_root_of_the_mean_square_with_an_epsilon(scale):
    x, factor = scale * rows(), torch.linspace(-0.5, 0.5, WIDTH)
    expected = x * (x.square().mean(dim=-1, keepdim=True) + 1e-6).rsqrt() * (1 + factor)
    torch.testing.assert_close(gemma.rms_norm(x, gemma.norm_factor(factor)), expected)


def test_a_row_of_zeros_stays_zero():
    zeros = torch.zeros(1, WIDTH)
    assert not gemma.rms_norm(zeros, torch.ones(WIDTH)).any()


@pytest.mark.parametrize("adaptive", [False, True])
def test_a_layer_starts_few_operations(adaptive):
    """What a small model takes, and a large one on a GPU without a graph."""
    layer, place = random_layer(adaptive=adaptive), place_of(batch=1)
    modulation = gemma.Modulation(torch.ones(WIDTH), torch.zeros(WIDTH), torch.ones(WIDTH))
    with Counting() as counting:
        if adaptive:
            gemma.modulated_layer(layer, rows(1), place, (modulation, modulation))
        else:
            gemma.read_layer(layer, rows(1), place)
    assert counting.count <= MOST_OPERATIONS
