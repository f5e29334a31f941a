"""What a CUDA graph captures, and how, without a GPU: on torch's device for shapes alone."""

import contextlib

import numpy as np
import pytest
from micro import micro_shape, random_leaves

from openpi_flash_models.actions.rtc import RtcOptions
from openpi_flash_models.checkpoints.leaves import nest

torch = pytest.importorskip("torch", reason="needs the torch extra")

from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402
from torch.utils._pytree import tree_leaves  # noqa: E402

from openpi_flash_models.torch_models.from_tree import build_flow_model  # noqa: E402
from openpi_flash_models.torch_models.graphs import CudaCapture  # noqa: E402
from openpi_flash_models.torch_models.sampler import Sampler  # noqa: E402

BATCH, WORDS, HORIZON, STEPS = 2, 7, 5, 3


class OnTheDevice(TorchDispatchMode):
    """Fails on what a capture cannot hold: host memory, and values that the host waits for."""

    def __init__(self, device):
        super().__init__()
        self.device = device
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += 1
        assert func is not torch.ops.aten._local_scalar_dense.default, "waits for a value"
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves((args, kwargs, result)):
            if isinstance(tensor, torch.Tensor):
                assert tensor.device.type == self.device, f"{func} in the host's memory"
        return result


def inputs_on(device, shape, *, pull):
    sizes = [
        ((BATCH, 2, 224, 224, 3), torch.uint8),
        ((BATCH, 2), torch.bool),
        ((BATCH, WORDS), torch.int64),
        ((BATCH, WORDS), torch.bool),
        ((BATCH, shape.action_dim), torch.float32),
        ((BATCH, HORIZON, shape.action_dim), torch.float32),
    ]
    if pull:
        sizes += [sizes[-1], sizes[-1], ((BATCH, HORIZON), torch.bool)]
    return tuple(torch.ones(size, dtype=dtype, device=device) for size, dtype in sizes)


@pytest.mark.parametrize("compiling", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("method", [None, "identity", "vjp", "prefix"])
@pytest.mark.parametrize("kind", ["pi0", "pi05"])
def test_a_call_stays_on_the_device_and_waits_for_nothing(kind, method, compiling, monkeypatch):
    shape = micro_shape(kind)
    tree = nest(random_leaves(shape))["params"]
    model = build_flow_model(tree, shape, dtype=torch.bfloat16, device="meta")
    sampler = Sampler(model, "none", RtcOptions(method=method or "identity"))
    schedule = model.schedule(STEPS)
    # the branches that compiled layers take
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: compiling)
    inputs = inputs_on("meta", shape, pull=method is not None)
    with torch.no_grad(), OnTheDevice("meta") as watch:
        actions = sampler._call(inputs, schedule, method or "identity")
    assert actions.shape == (BATCH, HORIZON, shape.action_dim)
    assert watch.count > 100


@pytest.mark.parametrize(
    ("work", "complaint"),
    [
        (lambda x: x.sum().item(), "waits for a value"),
        (lambda x: x + torch.ones(3), "in the host's memory"),
        (lambda x: x[x > 0], None),
    ],
)
def test_the_watch_sees_what_it_is_for(work, complaint):
    # what depends on values has no answer on a device without any
    errors = (AssertionError, NotImplementedError, RuntimeError)
    with pytest.raises(errors, match=complaint), OnTheDevice("meta"):
        work(torch.zeros(3, device="meta"))


class FakeCuda:
    """Stands in for ``torch.cuda``: runs on the CPU, and knows where."""

    def __init__(self):
        self.stream_now, self.captures, self.streams = "default", [], []
        self.CUDAGraph = FakeGraph

    def graph_pool_handle(self):
        return object()

    def device(self, device):
        return contextlib.nullcontext()

    def Stream(self, device):  # noqa: N802
        self.streams.append(FakeStream())
        return self.streams[-1]

    def current_stream(self, device):
        return FakeStream()

    @contextlib.contextmanager
    def stream(self, stream):
        before, self.stream_now = self.stream_now, stream
        yield
        self.stream_now = before

    @contextlib.contextmanager
    def graph(self, graph, *, pool, stream, capture_error_mode):
        self.captures.append((graph, pool, capture_error_mode))
        with self.stream(stream):
            yield


class FakeStream:
    def wait_stream(self, other):
        pass


class FakeGraph:
    """What it replays, a test gives it."""

    def __init__(self):
        self.replay = None


@pytest.fixture
def cuda(monkeypatch):
    fake = FakeCuda()
    monkeypatch.setattr(torch, "cuda", fake)
    return fake


def test_graphs_share_a_pool_and_one_stream_that_is_warm(cuda):
    ran_on = []

    def call(inputs):
        ran_on.append((cuda.stream_now, len(cuda.captures)))
        return inputs[0] * 2

    capture = CudaCapture(torch.device("cpu"))
    for _ in range(2):
        capture(call, (torch.zeros(3),))
    (side,) = cuda.streams
    assert ran_on == [(side, captures) for captures in (0, 0, 0, 1, 1, 1, 1, 2)]
    (_, first_pool, first_mode), (_, second_pool, second_mode) = cuda.captures
    assert first_pool is second_pool
    # another thread's work must not break a capture
    assert first_mode == second_mode == "thread_local"


def test_a_replay_reads_the_slots_of_the_capture_and_gives_away_a_copy(cuda):
    slots = []

    def call(inputs):
        slots[:] = inputs
        return inputs[0] * 2

    graph = CudaCapture(torch.device("cpu"))(call, (torch.zeros(3),))
    captured_slots, ((recorded, _, _),) = list(slots), cuda.captures
    recorded.replay = lambda: graph._output.copy_(captured_slots[0] * 2)
    first = graph.replay((torch.ones(3),))
    second = graph.replay((torch.full((3,), 5.0),))
    np.testing.assert_array_equal(first, [2, 2, 2])
    np.testing.assert_array_equal(second, [10, 10, 10])
