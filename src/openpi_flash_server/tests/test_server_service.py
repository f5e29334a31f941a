"""The whole service in this process, with models whose timing a test decides."""

import dataclasses
import json
import threading

import numpy as np
import pytest
from openpi_client.websocket_client_policy import WebsocketClientPolicy
from served_slot import wait_until
from server_fakes import WAIT, FakePlanner, FakePolicy

from flash_transport import Disconnected, FlashTransportPolicy, ServerError, WebsocketPolicy
from openpi_flash_models.errors import CheckpointError
from openpi_flash_server.admin.administered import SwapFailed
from openpi_flash_server.config.file import parse_config
from openpi_flash_server.serving.endpoint import StartError
from openpi_flash_server.serving.loading import Loaders
from openpi_flash_server.serving.service import Service, is_loopback

# openpi's client connects in the way of older websockets
pytestmark = pytest.mark.filterwarnings("ignore:connect.. must be used as a context manager")

FREE_PORTS = {"websocket_port": 0, "quic_port": 0}
ACTION = {"model_config_name": "null", "default_prompt": "fold the towel"}
PLANNER = {"checkpoint_dir": "/models/planner"}


class Models:
    """Loaders of fakes that remember what was loaded."""

    def __init__(self, *, policy=None, planner=None):
        self.fake_policy = policy or FakePolicy()
        self.fake_planner = planner or FakePlanner()
        self.calls = []

    def policy(self, settings):
        self.calls.append(("policy", settings.model_config_name, settings.default_prompt))
        return self.fake_policy

    def planner(self, settings, robot):
        self.calls.append(("planner", settings.checkpoint_dir, robot))
        return self.fake_planner

    @property
    def loaders(self):
        return Loaders(policy=self.policy, planner=self.planner)


def config_of(tmp_path, **values):
    values = {
        "host": "127.0.0.1",
        "state_dir": str(tmp_path / "state"),
        "admin": {"enabled": False},
        "action_transport": FREE_PORTS,
        "planner_transport": FREE_PORTS,
        **values,
    }
    return parse_config(json.dumps(values), {}, source="test")


@pytest.fixture
def serve(tmp_path):
    services = []

    def start(models=None, *, load=True, **values):
        service = Service(config_of(tmp_path, **values), (models or Models()).loaders)
        services.append(service)
        if load:
            service.load()
        return service

    yield start
    for service in services:
        assert service.close(grace=WAIT)


def test_a_combined_service_answers_actions_and_subtasks_on_four_ports(serve):
    models = Models()
    service = serve(models, action=ACTION, planner=PLANNER)
    assert service.ready_line == "Service ready (mode=combined, slots=['action', 'planner'])"
    assert models.calls == [
        ("policy", "null", "fold the towel"),
        ("planner", "/models/planner", "two_joints"),
    ]
    action, planner = service.endpoints["action"], service.endpoints["planner"]

    openpi = WebsocketClientPolicy("127.0.0.1", action.websocket.port)
    reply = openpi.infer({"state": np.ones(2)})
    openpi._ws.close()
    assert reply["actions"].tolist() == [[1.0, 1.0]] * 3
    assert reply["subtask"]["text"] == "step 1 of fold the towel"
    assert "mode" in openpi.get_server_metadata()["supports"]

    with FlashTransportPolicy("127.0.0.1", action.quic.port) as policy:
        only_subtask = policy.infer({"mode": "subtask_only", "prompt": "wipe"}, timeout=WAIT)
        only_action = policy.infer({"mode": "action_only", "state": np.zeros(2)}, timeout=WAIT)
    assert only_subtask["subtask"]["text"] == "step 2 of wipe"
    assert "actions" not in only_subtask
    assert "subtask" not in only_action

    for client in (
        WebsocketPolicy("127.0.0.1", planner.websocket.port),
        FlashTransportPolicy("127.0.0.1", planner.quic.port),
    ):
        with client:
            subtask = client.infer({"prompt": "sort"}, timeout=WAIT)["subtask"]
            assert subtask["text"].endswith("of sort")
            assert subtask["age_ms"] == 0.0
            metadata = client.get_server_metadata()
            assert metadata["robot"] == "two_joints"
            assert metadata["image_specs"][0]["target_shape"] == [4, 4, 3]


def test_a_planner_in_the_background_delays_no_action_after_the_first(serve):
    models = Models()
    background = {**PLANNER, "schedule": "background", "refresh_hz": 100.0}
    service = serve(models, action=ACTION, planner=background)
    with FlashTransportPolicy("127.0.0.1", service.endpoints["action"].quic.port) as policy:
        first = policy.infer({"state": np.zeros(2)}, timeout=WAIT)["subtask"]
        assert first == {"text": "step 1 of fold the towel", "ms": 7.5, "age_ms": 0.0}
        models.fake_planner.gate = threading.Event()
        # it hangs in the second run, which is the first refresh
        for _ in range(20):
            reply = policy.infer({"state": np.zeros(2)}, timeout=WAIT)
            assert reply["subtask"]["text"] == first["text"]
            assert reply["subtask"]["age_ms"] > 0
    models.fake_planner.gate.set()


def test_a_planner_alone_serves_the_robot_of_its_configuration(serve):
    models = Models()
    service = serve(models, planner={**PLANNER, "robot": "sim_arm"})
    assert models.calls == [("planner", "/models/planner", "sim_arm")]
    assert list(service.endpoints) == ["planner"]
    with WebsocketPolicy("127.0.0.1", service.endpoints["planner"].websocket.port) as client:
        assert client.infer({"prompt": "sort"}, timeout=WAIT)["subtask"]["text"] == "step 1 of sort"
        with pytest.raises(ServerError, match="bad_request: prompt: missing"):
            client.infer({}, timeout=WAIT)
        assert "action_horizon" not in client.get_server_metadata()


def test_a_null_policy_gives_the_planner_no_robot(tmp_path):
    from openpi_flash_server.handlers.null_policy import NullPolicy

    models = Models(policy=NullPolicy())
    service = Service(config_of(tmp_path, action=ACTION, planner=PLANNER), models.loaders)
    service.load()
    assert models.calls[1] == ("planner", "/models/planner", None)
    assert service.close(grace=WAIT)


def test_models_are_warm_before_anybody_is_let_in(serve):
    models = Models()
    service = serve(models, load=False, action=ACTION)
    assert service.endpoints["action"].slot.not_ready_because == "starting"
    assert not models.fake_policy.warmed
    service.load()
    assert models.fake_policy.warmed
    assert service.endpoints["action"].slot.not_ready_because is None


def test_every_slot_says_what_the_start_is_busy_with(serve):
    seen = []

    class Watching(FakePlanner):
        def warm_up(self):
            seen.extend(endpoint.slot.not_ready_because for endpoint in service.endpoints.values())

    service = serve(Models(planner=Watching()), load=False, action=ACTION, planner=PLANNER)
    service.load()
    assert seen == ["warming up: compiling the planner model"] * 2


def test_a_checkpoint_that_cannot_be_loaded_leaves_nobody_let_in(serve):
    class Broken(Models):
        def policy(self, settings):
            raise CheckpointError("/models/x: params/ is missing")

    service = serve(Broken(), load=False, action=ACTION)
    with pytest.raises(CheckpointError, match="params/ is missing"):
        service.load()
    assert service.endpoints["action"].slot.not_ready_because is not None


def test_a_stop_in_the_middle_of_loading_lets_nobody_in(tmp_path):
    loading, go_on = threading.Event(), threading.Event()

    class Slow(Models):
        def policy(self, settings):
            loading.set()
            assert go_on.wait(WAIT)
            return super().policy(settings)

    service = Service(config_of(tmp_path, action=ACTION), Slow().loaders)
    thread = threading.Thread(target=service.load)
    thread.start()
    assert loading.wait(WAIT)
    assert service.close(grace=WAIT)
    go_on.set()
    thread.join(WAIT)
    assert not thread.is_alive()
    assert service.endpoints["action"].slot.not_ready_because == "shutting down"


def test_a_port_in_use_frees_the_ports_that_were_opened_before(tmp_path):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = probe.getsockname()[1]
        probe.close()
        config = config_of(
            tmp_path,
            action=ACTION,
            planner=PLANNER,
            action_transport={"websocket_port": free, "quic_port": 0},
            planner_transport={"websocket_port": taken.getsockname()[1], "quic_port": 0},
        )
        with pytest.raises(StartError, match="planner_transport.websocket_port: cannot listen"):
            Service(config, Models().loaders)
        with socket.create_server(("127.0.0.1", free)):
            pass


def test_stopping_while_the_planner_runs_answers_the_action_that_waits_for_it(tmp_path):
    models = Models(planner=FakePlanner(gate=threading.Event()))
    service = Service(config_of(tmp_path, action=ACTION, planner=PLANNER), models.loaders)
    service.load()
    answers = []
    with WebsocketPolicy("127.0.0.1", service.endpoints["action"].websocket.port) as client:
        asking = threading.Thread(
            target=lambda: answers.append(client.infer({"state": np.zeros(2)}, timeout=WAIT))
        )
        asking.start()
        assert models.fake_planner.entered.acquire(timeout=WAIT)
        closing = threading.Thread(target=service.close, kwargs={"grace": WAIT})
        closing.start()
        wait_until(lambda: service.endpoints["action"].slot.not_ready_because is not None)
        models.fake_planner.gate.set()
        asking.join(WAIT)
        closing.join(WAIT)
    assert answers[0]["subtask"]["text"] == "step 1 of fold the towel"
    assert not closing.is_alive()


def test_an_inference_that_does_not_end_does_not_hold_up_the_stop(tmp_path):
    models = Models(policy=FakePolicy(gate=threading.Event()))
    service = Service(config_of(tmp_path, action=ACTION, planner=PLANNER), models.loaders)
    service.load()
    with FlashTransportPolicy("127.0.0.1", service.endpoints["action"].quic.port) as client:
        refused = []

        def ask():
            with pytest.raises((ServerError, Disconnected)) as error:
                client.infer({"state": np.zeros(2)}, timeout=WAIT)
            refused.append(error.value)

        asking = threading.Thread(target=ask)
        asking.start()
        assert models.fake_policy.entered.acquire(timeout=WAIT)
        assert not service.close(grace=0.01)
        asking.join(WAIT)
        assert len(refused) == 1
    models.fake_policy.gate.set()


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.5", False),
        ("robot-server", False),
    ],
)
def test_only_addresses_of_this_machine_are_loopback(host, expected):
    assert is_loopback(host) is expected


def test_ipv6_is_served_too(serve):
    try:
        service = serve(action=ACTION, host="::1")
    except StartError:
        pytest.skip("this machine has no IPv6")
    endpoint = service.endpoints["action"]
    for client in (
        WebsocketPolicy("::1", endpoint.websocket.port),
        FlashTransportPolicy("::1", endpoint.quic.port),
    ):
        with client:
            assert client.infer({"state": np.zeros(2)}, timeout=WAIT)["actions"].shape == (3, 2)


def test_a_policy_is_replaced_between_two_requests_and_none_is_lost(serve):
    class Doubling(FakePolicy):
        def infer(self, observation, controls=None):
            result = super().infer(observation, controls)
            return dataclasses.replace(result, actions=2 * result.actions)

    models = Models(policy=FakePolicy(gate=threading.Event()))
    service = serve(models, action=ACTION)
    first = models.fake_policy
    with FlashTransportPolicy("127.0.0.1", service.endpoints["action"].quic.port) as client:
        before = client.submit({"state": np.ones(2)}, WAIT)
        assert first.entered.acquire(timeout=WAIT)
        models.fake_policy = Doubling()
        other = service._config.action.model_copy(update={"default_prompt": "wipe"})
        replacing = threading.Thread(target=service.swaps["action"].swap, args=(other, "beside"))
        replacing.start()
        # while the former policy still runs
        after = client.submit({"state": np.ones(2), "session": "other"}, WAIT)
        wait_until(lambda: models.fake_policy.seen or not replacing.is_alive())
        first.gate.set()
        assert before.result(WAIT)["actions"].tolist() == [[1.0, 1.0]] * 3
        assert after.result(WAIT)["actions"].tolist() == [[2.0, 2.0]] * 3
        replacing.join(WAIT)
    assert not replacing.is_alive()
    assert [call[2] for call in models.calls] == ["fold the towel", "wipe"]


def test_a_policy_that_cannot_be_loaded_leaves_the_former_one_serving(serve):
    models = Models()
    service = serve(models, action=ACTION)

    def broken(settings):
        raise CheckpointError("/models/x: params/ is missing")

    service._loaders = dataclasses.replace(service._loaders, policy=broken)
    other = service._config.action.model_copy(update={"default_prompt": "wipe"})
    with pytest.raises(SwapFailed, match="params/ is missing; the former checkpoint serves"):
        service.swaps["action"].swap(other, "beside")
    with WebsocketPolicy("127.0.0.1", service.endpoints["action"].websocket.port) as client:
        assert client.infer({"state": np.ones(2)}, timeout=WAIT)["actions"].shape == (3, 2)
