"""What an operator sees of the slots for sessions' checkpoints, and what happens if one hangs."""

import dataclasses
import threading

import numpy as np
import pytest
from admin_service import AdminService
from positronic_client import PositronicSession
from prometheus_client.parser import text_string_to_metric_families
from served_slot import wait_until
from server_fakes import CLIENT, SPEC, WAIT, FakePolicy, Inbox, logged_slot, make_work, open_with
from test_server_service import FREE_PORTS, config_of

from openpi_flash_models.checkpoints.digest import CheckpointIdentity
from openpi_flash_models.policy.policy_protocol import ActionResult
from openpi_flash_server.handlers.action import ActionHandler
from openpi_flash_server.serving.checkpoint_slot import CheckpointSlot, LoadedCheckpoint
from openpi_flash_server.serving.checkpoint_slots import CheckpointSlots, ServedPolicy, SlotWatch
from openpi_flash_server.serving.loading import Loaders
from openpi_flash_server.slot.answer import ErrorCode, Failure, Reply
from openpi_flash_server.slot.health import FAILURES
from openpi_flash_server.slot.life import Stage
from openpi_flash_server.slot.ticket import Ticket

# Positronic's client connects in the way of older websockets
pytestmark = pytest.mark.filterwarnings("ignore:connect.. must be used as a context manager")

LIMIT = 9.0
"""s of a clock that only the test moves."""


def action_of(directory):
    return {"model_config_name": "pi05_droid", "checkpoint_dir": str(directory / "exp" / "1000")}


class Bench:
    """Checkpoints `1000` (the action slot's) to `3000`, and a clock that only the test moves."""

    def __init__(self, directory):
        for step in ("1000", "2000", "3000"):
            (directory / "exp" / step).mkdir(parents=True)
        config = config_of(
            directory,
            action={
                "model_config_name": "pi05_droid",
                "checkpoint_dir": str(directory / "exp/1000"),
            },
            positronic={"codec": "ee", "checkpoints_dir": str(directory / "exp")},
        )
        self.now = 0.0
        self.own = logged_slot()
        open_with(self.own, ActionHandler(FakePolicy()))
        self.policies, self.unloaded, self.seen, self.gone = [], [], [], []
        self.checkpoints = CheckpointSlots(
            config,
            served=lambda: ServedPolicy(config.action, {}, self.own),
            load=self._load,
            make_slot=lambda name: CheckpointSlot(
                name, max_wait=0.0, give_up_after=LIMIT, links=dict, clock=lambda: self.now
            ),
            watch=SlotWatch(self.seen.append, lambda slot, metadata: metadata, self.gone.append),
        )

    def _load(self, settings, slot):
        assert slot.stage is Stage.STARTING
        policy = FakePolicy(gate=threading.Event())
        policy.gate.set()
        self.policies.append(policy)
        unload = lambda: self.unloaded.append(policy)  # noqa: E731
        return LoadedCheckpoint(ActionHandler(policy), {}, unload)

    def lease(self, name):
        given = Inbox()
        self.checkpoints.request(name, given)
        return given.wait()

    def ask(self, lease):
        inbox, work = Inbox(), make_work({"state": np.ones(2)})
        ticket = Ticket((work,), False, CLIENT, self.now, 0.0, None, inbox, lambda: False)
        lease.slot.submit(ticket)
        return inbox

    def hang(self, lease):
        """A call that is given up."""
        policy = self.policies[-1]
        policy.gate.clear()
        inbox = self.ask(lease)
        assert policy.entered.acquire(timeout=WAIT)
        self.now += LIMIT
        # a change of settings makes it look at the clock
        lease.slot.max_wait = 0.0
        return inbox

    def close(self):
        for policy in self.policies:
            policy.gate.set()
        self.checkpoints.close(grace=WAIT)
        self.own.close(grace=WAIT)


@pytest.fixture
def bench(tmp_path):
    bench = Bench(tmp_path)
    yield bench
    bench.close()


def test_a_call_that_hangs_fails_its_request_and_no_other_waits_for_it(bench):
    lease = bench.lease("2000")
    assert isinstance(bench.ask(lease).wait(), Reply)
    reason = "the model has not answered for 9 s"
    assert bench.hang(lease).wait() == Failure(ErrorCode.INTERNAL, reason)
    assert bench.ask(lease).wait() == Failure(ErrorCode.NOT_READY, reason)
    (slot,) = bench.seen
    assert (slot.name, slot.unhealthy_because, slot.trouble_because) == (
        "action-2000",
        reason,
        reason,
    )
    # the action slot goes on
    assert isinstance(bench.ask(bench.lease(None)).wait(), Reply)


def test_a_checkpoint_that_hangs_is_unloaded_after_its_last_session_and_loaded_anew(bench, caplog):
    lease, other = bench.lease("2000"), bench.lease("2000")
    bench.hang(lease).wait()
    lease.release()
    assert bench.ask(other).wait().code is ErrorCode.NOT_READY
    assert bench.gone == []
    other.release()
    wait_until(lambda: bench.gone == bench.seen)
    assert bench.unloaded == bench.policies[:1]
    assert "still runs and keeps its memory" in caplog.text
    assert isinstance(bench.ask(bench.lease("2000")).wait(), Reply)
    assert len(bench.policies) == 2


def test_a_checkpoint_that_hangs_when_no_session_is_left_is_unloaded_at_once(bench):
    lease = bench.lease("2000")
    policy = bench.policies[0]
    policy.gate.clear()
    bench.ask(lease)
    assert policy.entered.acquire(timeout=WAIT)
    lease.release()
    bench.now += LIMIT
    lease.slot.max_wait = 0.0
    wait_until(lambda: bench.unloaded == [policy])


def test_a_checkpoint_that_comes_back_in_time_answers_its_sessions_again(bench):
    lease = bench.lease("2000")
    bench.hang(lease).wait()
    bench.policies[0].gate.set()
    wait_until(lambda: lease.slot.not_ready_because is None)
    assert isinstance(bench.ask(lease).wait(), Reply)
    lease.release()
    assert isinstance(bench.ask(bench.lease("2000")).wait(), Reply)
    assert len(bench.policies) == 1


class StepPolicy(FakePolicy):
    """Answers for Positronic's codec `ee`, or fails."""

    is_broken = False

    def __init__(self, step):
        super().__init__()
        self.spec = dataclasses.replace(
            SPEC, checkpoint=CheckpointIdentity(step, f"sha256:{step * 16}")
        )

    def infer(self, observation, controls=None):
        if self.is_broken:
            raise RuntimeError("out of memory")
        return ActionResult(np.tile([0, 0, 0, 1.0, 0, 0, 0, 1.0], (3, 1)), infer_ms=1.0)


class Server(AdminService):
    """A service with a directory of checkpoints; loads of others than `1000` may be held."""

    def __init__(self, directory):
        for step in ("1000", "2000", "3000"):
            (directory / "exp" / step).mkdir(parents=True)
        self.policies = {}
        self.gate = threading.Event()
        self.gate.set()
        super().__init__(
            directory / "state",
            load=False,
            action={
                "model_config_name": "pi05_droid",
                "checkpoint_dir": str(directory / "exp/1000"),
            },
            action_transport=FREE_PORTS,
            positronic={"codec": "ee", "checkpoints_dir": str(directory / "exp")},
        )
        self.service._loaders = Loaders(self._load, lambda *_: None)
        self.service.load()

    def _load(self, settings):
        step = settings.checkpoint_dir.rpartition("/")[2]
        assert step == "1000" or self.gate.wait(WAIT)
        self.policies[step] = StepPolicy(step)
        return self.policies[step]

    def session(self, name):
        return PositronicSession(self.service.endpoints["action"].websocket.port, name)

    def slots(self):
        return self.get("/status")[1]["slots"]

    def metrics(self, slot):
        """The values of a slot's series, by name and the other labels' values."""
        return {
            (sample.name, *sorted(v for k, v in sample.labels.items() if k != "slot")): sample.value
            for family in text_string_to_metric_families(self.get("/metrics")[1])
            for sample in family.samples
            if sample.labels.get("slot") == slot
        }


@pytest.fixture
def server(tmp_path):
    server = Server(tmp_path)
    yield server
    server.gate.set()
    assert server.close()


def test_a_checkpoint_that_is_being_loaded_is_shown_and_the_server_is_ready_without_it(server):
    server.gate.clear()
    with server.session("2000") as session:
        wait_until(lambda: "action-2000" in server.slots())
        wait_until(lambda: server.slots()["action-2000"]["stage"] == "loading")
        slot = server.slots()["action-2000"]
        assert (slot["ready"], slot["reason"]) == (False, "warming up: loading the action model")
        assert slot["listens"] == {"session": "/api/v1/session/2000"}
        assert server.slots()["action"]["stage"] == "ready"
        assert server.get("/readyz") == (200, "OK\n")
        assert server.service.is_loading
        server.gate.set()
        assert session.until_ready()["status"] == "ready"
        slot = server.slots()["action-2000"]
        assert (slot["stage"], slot["ready"]) == ("ready", True)
        assert slot["checkpoint"] == {"name": "2000", "digest": f"sha256:{'2000' * 16}"}
        assert server.get("/v2/models/action-2000/ready")[0] == 200


def test_the_requests_of_a_checkpoint_are_counted_apart_and_its_sessions_shown(server):
    with server.session("2000") as session:
        session.until_ready()
        for _ in range(3):
            assert "result" in session.infer()
        (shown,) = server.get("/status")[1]["sessions"]
        assert (shown["slot"], shown["answered"], shown["link"]) == ("action-2000", 3, "WebSocket")
        values = server.metrics("action-2000")
        assert values["openpi_flash_answers_total",] == 3
        assert values["openpi_flash_ready",] == 1
        labels = sorted(["", "2000", "pi05", f"sha256:{'2000' * 16}", "two_joints"])
        assert values[("openpi_flash_model_info", *labels)] == 1
        assert server.metrics("action")["openpi_flash_answers_total",] == 0


def test_a_checkpoint_that_is_unloaded_leaves_the_page_and_the_metrics(server):
    with server.session("2000") as session:
        session.until_ready()
        session.infer()
    with server.session("3000") as session:
        session.until_ready()
        assert set(server.slots()) == {"action", "action-3000"}
        assert server.metrics("action-2000") == {}
        assert server.metrics("action-3000")["openpi_flash_ready",] == 1


def test_a_checkpoint_that_fails_again_and_again_makes_the_server_not_ready(server):
    with server.session("2000") as session:
        session.until_ready()
        server.policies["2000"].is_broken = True
        for _ in range(FAILURES):
            assert "out of memory" in session.infer()["error"]
        reason = f"{FAILURES} requests in a row failed, the last: RuntimeError: out of memory"
        wait_until(lambda: server.get("/readyz") == (503, f"action-2000: {reason}\n"))
        assert server.slots()["action-2000"]["reason"] == reason
        assert server.get("/livez") == (200, "OK\n")
        assert server.get("/v2/models/action/ready")[0] == 200
        server.policies["2000"].is_broken = False
        for _ in range(3):
            assert "result" in session.infer()
        wait_until(lambda: server.get("/readyz")[0] == 200)


def test_a_change_of_max_wait_ms_reaches_the_checkpoints_too(server):
    with server.session("2000") as session:
        session.until_ready()
        server.patch(max_wait_ms=17.0)
        slots = server.service.admin._slots
        assert {name: slot.max_wait_ms for name, slot in slots.items()} == {
            "action": 17.0,
            "action-2000": 17.0,
        }
