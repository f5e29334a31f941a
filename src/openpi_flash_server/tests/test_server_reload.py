"""Another checkpoint takes the place of one that serves."""

import dataclasses
import gc
import json
import threading
import weakref

import numpy as np
import pytest
from admin_service import DIGEST, AdminService
from served_slot import wait_until
from server_fakes import SPEC, WAIT, FakePolicy
from typer.testing import CliRunner

from flash_transport import FlashTransportPolicy, ServerError, WebsocketPolicy
from openpi_flash_models.checkpoints.digest import CheckpointIdentity
from openpi_flash_models.errors import CheckpointError
from openpi_flash_server.admin.administered import SwapRefused
from openpi_flash_server.cli import app
from openpi_flash_server.serving.contract_change import contract_changes
from openpi_flash_server.serving.loading import Loaders
from openpi_flash_server.serving.metadata import action_metadata
from openpi_flash_server.slot.life import Stage

OTHER_DIGEST = "sha256:" + "5a" * 32


class Disk:
    """Checkpoints by directory; loads may be held at `gate`."""

    def __init__(self):
        self.gate = None
        self.loading = threading.Semaphore(0)
        self.loaded = []
        self.living = weakref.WeakSet()
        self.broken = set()
        self.horizon = 3

    def load(self, settings):
        self.loading.release()
        if self.gate is not None:
            assert self.gate.wait(WAIT)
        if settings.checkpoint_dir in self.broken:
            raise CheckpointError(f"{settings.checkpoint_dir}: params/ is missing")
        policy = FakePolicy()
        digest = DIGEST if settings.checkpoint_dir == "" else OTHER_DIGEST
        identity = CheckpointIdentity(settings.checkpoint_dir or "first", digest)
        policy.spec = dataclasses.replace(SPEC, checkpoint=identity, action_horizon=self.horizon)
        self.loaded.append(settings.checkpoint_dir)
        self.living.add(policy)
        return policy


@pytest.fixture
def disk():
    return Disk()


@pytest.fixture
def serve(tmp_path, disk):
    servers = []

    def start(**options):
        server = AdminService(tmp_path / "state", load=False, **options)
        server.service._loaders = Loaders(disk.load, lambda *_: server.planner)
        server.service.load()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.close()


def post(server, verb, body):
    status, _, text = server.ask("POST", f"/slots/action/{verb}", body)
    return status, json.loads(text)


def live_policies(disk):
    gc.collect()
    return len(disk.living)


@pytest.mark.parametrize("link", ["quic", "websocket"])
def test_four_clients_see_no_failure_while_the_checkpoint_changes(serve, disk, link):
    server = serve()
    endpoint = server.service.endpoints["action"]
    stop, failures, digests = threading.Event(), [], [set() for _ in range(4)]

    def run(number):
        port = endpoint.quic.port if link == "quic" else endpoint.websocket.port
        kind = FlashTransportPolicy if link == "quic" else WebsocketPolicy
        try:
            with kind("127.0.0.1", port) as client:
                while not stop.is_set():
                    answer = client.infer({"state": np.ones(2)}, timeout=WAIT)
                    digests[number].add(answer["artifact"])
        except BaseException as error:
            failures.append(error)

    robots = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for robot in robots:
        robot.start()
    wait_until(lambda: failures or all(digests))
    try:
        for checkpoint in ("/models/b", "/models/c", "/models/b"):
            status, answer = post(server, "reload", {"checkpoint_dir": checkpoint})
            assert (status, answer["checkpoint"]["name"]) == (200, checkpoint)
        wait_until(lambda: failures or all(OTHER_DIGEST in seen for seen in digests))
    finally:
        stop.set()
        for robot in robots:
            robot.join(WAIT)
    assert failures == []
    assert disk.loaded == ["", "/models/b", "/models/c", "/models/b"]
    assert live_policies(disk) == 1


def test_clients_that_come_after_a_reload_are_told_the_other_checkpoint(serve):
    server = serve()
    with server.connect() as before:
        assert before.get_server_metadata()["checkpoint"]["digest"] == DIGEST
        assert post(server, "reload", {"checkpoint_dir": "/models/b"})[0] == 200
        # a connected client knows it by its answers
        assert before.infer({"state": np.ones(2)}, timeout=WAIT)["artifact"] == OTHER_DIGEST
        with pytest.raises(ServerError, match="expected_artifact"):
            before.infer({"state": np.ones(2), "expected_artifact": DIGEST}, timeout=WAIT)
        with server.connect() as after:
            assert after.get_server_metadata()["checkpoint"]["digest"] == OTHER_DIGEST
    assert server.get("/status")[1]["slots"]["action"]["checkpoint"]["name"] == "/models/b"


def test_without_room_for_both_the_former_is_freed_first(serve, disk):
    server = serve(action={"model_config_name": "null", "reload_memory": "after"})
    slot = server.service.endpoints["action"].slot
    disk.gate = threading.Event()
    disk.loading.acquire()
    reloading = threading.Thread(target=post, args=(server, "reload", {"checkpoint_dir": "/b"}))
    reloading.start()
    assert disk.loading.acquire(timeout=WAIT)
    assert live_policies(disk) == 0
    assert slot.stage is Stage.LOADING
    assert slot.not_ready_because == "warming up: loading the action model"
    disk.gate.set()
    reloading.join(WAIT)
    assert slot.stage is Stage.READY
    with server.connect() as client:
        assert client.infer({"state": np.ones(2)}, timeout=WAIT)["artifact"] == OTHER_DIGEST


@pytest.mark.parametrize("memory", ["beside", "after"])
def test_a_checkpoint_that_cannot_be_loaded_leaves_the_former_serving(serve, disk, memory):
    server = serve()
    disk.broken.add("/models/b")
    status, answer = post(server, "reload", {"checkpoint_dir": "/models/b", "memory": memory})
    assert status == 409
    assert answer["detail"] == "/models/b: params/ is missing; the former checkpoint serves"
    with server.connect() as client:
        assert client.infer({"state": np.ones(2)}, timeout=WAIT)["artifact"] == DIGEST
    assert server.get("/readyz")[0] == 200
    assert live_policies(disk) == 1


def test_a_way_back_that_fails_too_is_a_trouble_that_health_tells(serve, disk):
    server = serve()
    disk.broken |= {"/models/b", ""}
    body = {"checkpoint_dir": "/models/b", "memory": "after"}
    status, answer = post(server, "reload", body)
    assert status == 409
    assert answer["detail"].endswith("; nothing is loaded")
    assert server.get("/livez")[0] == 503
    slot = server.service.endpoints["action"].slot
    assert slot.stage is Stage.FAILED
    disk.broken.clear()
    assert post(server, "reload", {})[0] == 200
    assert slot.stage is Stage.READY
    assert server.get("/livez")[0] == 200


def test_a_checkpoint_of_another_robot_is_refused_before_it_serves(serve, disk):
    server = serve()
    disk.horizon = 4
    status, answer = post(server, "reload", {"checkpoint_dir": "/models/b"})
    assert status == 409
    assert "action_horizon would change under connected clients" in answer["detail"]
    assert live_policies(disk) == 1


def test_unload_gives_the_memory_back_and_a_reload_serves_again(serve, disk):
    server = serve()
    slot = server.service.endpoints["action"].slot
    with server.connect() as client:
        assert post(server, "unload", {}) == (200, {})
        assert live_policies(disk) == 0
        assert slot.stage is Stage.UNLOADED
        with pytest.raises(ServerError, match="unloaded by the operator") as error:
            client.infer({"state": np.ones(2)}, timeout=1.0)
        assert error.value.code == "not_ready"
        assert post(server, "unload", {})[0] == 409
        assert post(server, "reload", {})[0] == 200
        assert client.infer({"state": np.ones(2)}, timeout=WAIT)["artifact"] == DIGEST


def test_one_reload_at_a_time(serve, disk):
    server = serve()
    disk.gate = threading.Event()
    disk.loading.acquire()
    reloading = threading.Thread(target=post, args=(server, "reload", {}))
    reloading.start()
    assert disk.loading.acquire(timeout=WAIT)
    for verb in ("reload", "unload"):
        status, answer = post(server, verb, {})
        assert (status, answer["detail"]) == (409, "another reload is under way, wait for its end")
    disk.gate.set()
    reloading.join(WAIT)


def test_a_server_that_still_loads_is_not_reloaded(tmp_path):
    server = AdminService(tmp_path, load=False)
    try:
        assert post(server, "reload", {}) == (409, {"detail": "the action slot is starting"})
        server.service.load()
        assert post(server, "reload", {})[0] == 200
    finally:
        server.close()
    with pytest.raises(SwapRefused, match="the action slot is draining"):
        server.service.swaps["action"].reload()


def test_a_stop_in_the_middle_of_a_reload_lets_nobody_in(serve, disk):
    server = serve()
    disk.gate = threading.Event()
    disk.loading.acquire()
    answers = []
    swap = server.service.swaps["action"]

    def reload():
        try:
            swap.reload()
        except Exception as error:
            answers.append(str(error))

    reloading = threading.Thread(target=reload)
    reloading.start()
    assert disk.loading.acquire(timeout=WAIT)
    assert server.service.is_loading
    assert server.close()
    disk.gate.set()
    reloading.join(WAIT)
    assert answers
    assert "the server shuts down" in answers[0]


def test_a_policy_that_hangs_is_replaced_by_a_new_instance(serve, disk):
    server = serve(action={"model_config_name": "null", "watchdog_s": 2.0})
    endpoint = server.service.endpoints["action"]
    come_back = threading.Event()
    (first,) = disk.living
    first.gate = come_back
    del first
    with server.connect() as client:
        with pytest.raises(ServerError, match="has not answered for 2 s"):
            client.infer({"state": np.ones(2)}, timeout=WAIT)
        wait_until(lambda: len(disk.loaded) == 2 and endpoint.unhealthy_because is None)
        assert client.infer({"state": np.ones(2)}, timeout=WAIT)["artifact"] == DIGEST
    come_back.set()


def test_without_room_for_both_a_policy_that_hangs_is_told_by_health(serve, disk):
    action = {"model_config_name": "null", "watchdog_s": 2.0, "reload_memory": "after"}
    server = serve(action=action)
    come_back = threading.Event()
    (first,) = disk.living
    first.gate = come_back
    with server.connect() as client:
        with pytest.raises(ServerError, match="has not answered"):
            client.infer({"state": np.ones(2)}, timeout=WAIT)
        assert server.get("/livez") == (503, "action: the model has not answered for 2 s\n")
        come_back.set()
        wait_until(lambda: server.get("/readyz")[0] == 200)
        assert client.infer({"state": np.ones(2)}, timeout=WAIT)["artifact"] == DIGEST
    assert len(disk.loaded) == 1


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/slots/planner/reload", {}, 404),
        ("/slots/action/reload", {"checkpoint": "/b"}, 422),
        ("/slots/action/reload", {"checkpoint_dir": ""}, 422),
        ("/slots/action/reload", {"memory": "both"}, 422),
        ("/slots/action/unload", {"now": True}, 422),
    ],
)
def test_a_request_that_is_wrong_changes_nothing(serve, disk, path, body, status):
    server = serve()
    assert server.ask("POST", path, body)[0] == status
    assert len(disk.loaded) == 1


def test_a_web_page_elsewhere_cannot_reload(serve, disk):
    server = serve()
    for text, headers in (("", {}), ("{}", {"Content-Type": "text/plain"})):
        status, _, _ = server.ask("POST", "/slots/action/reload", text=text, **headers)
        assert status == 422
    assert len(disk.loaded) == 1


def test_a_default_prompt_that_the_operator_set_outlives_a_reload(serve):
    server = serve(action={"model_config_name": "null", "default_prompt": "fold"})
    server.patch(default_prompt="wipe")
    assert post(server, "reload", {})[0] == 200
    assert server.get("/config")[1]["default_prompt"] == "wipe"


def test_the_command_reloads_and_unloads(serve, disk):
    server = serve()
    host = server.url.removeprefix("http://").rstrip("/")
    run = CliRunner().invoke
    result = run(app, ["reload", "--checkpoint", "/models/b", host])
    assert (result.exit_code, result.output) == (0, f"serving pi05 /models/b {OTHER_DIGEST}\n")
    disk.broken.add("/models/c")
    result = run(app, ["reload", "--checkpoint", "/models/c", "--memory", "after", host])
    assert (result.exit_code, result.output) == (
        1,
        "error: /models/c: params/ is missing; the former checkpoint serves\n",
    )
    result = run(app, ["reload", "--unload", host])
    assert (result.exit_code, result.output) == (0, "unloaded\n")
    assert run(app, ["reload", "--unload", "--memory", "after", host]).exit_code == 2


def test_the_command_names_a_host_that_does_not_answer():
    result = CliRunner().invoke(app, ["reload", "127.0.0.1:1"])
    assert result.exit_code == 1
    assert result.output == "error: 127.0.0.1:1: connection refused; is this the admin port?\n"


def test_what_a_robot_relies_on_is_compared_and_the_weights_are_not():
    metadata = action_metadata(SPEC, has_planner=False)
    other = dataclasses.replace(SPEC, checkpoint=CheckpointIdentity("b", DIGEST))
    assert contract_changes(metadata, action_metadata(other, has_planner=False)) == []
    other = dataclasses.replace(SPEC, action_rate_hz=50.0, robot="three_joints")
    changes = contract_changes(metadata, action_metadata(other, has_planner=False))
    assert changes == ["robot", "action_rate_hz"]
