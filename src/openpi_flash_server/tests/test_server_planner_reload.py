"""Another planner takes the place of one that serves, alone or beside an action slot."""

import gc
import json
import threading
import weakref

import numpy as np
import pytest
from admin_service import ACTION, PLANNER, AdminService
from served_slot import wait_until
from server_fakes import WAIT, FakePlanner, FakeSubtask
from typer.testing import CliRunner

from flash_transport import ServerError
from openpi_flash_models.checkpoints.digest import CheckpointIdentity
from openpi_flash_models.errors import CheckpointError
from openpi_flash_server.cli import app
from openpi_flash_server.serving.loading import Loaders
from openpi_flash_server.slot.life import Stage

FIRST = PLANNER["checkpoint_dir"]
OTHER = "/models/other"
OBSERVATION = {"state": np.ones(2), "prompt": "wipe"}
SCHEDULES = {
    "inline": {"schedule": "inline"},
    # every request asks for a new subtask, if none is under way
    "background": {"schedule": "background", "refresh_hz": 100.0},
}


class NamedPlanner(FakePlanner):
    """Answers with the name of its checkpoint."""

    def __init__(self, name):
        super().__init__()
        self.checkpoint = CheckpointIdentity(name, f"sha256:{len(name):064x}")

    def plan(self, observation, *, prompt, prompt_format=None):
        super().plan(observation, prompt=prompt)
        return FakeSubtask(self.checkpoint.name)


class Shelf:
    """Planners by directory; loads may be held at `gate`."""

    def __init__(self):
        self.gate = None
        self.loading = threading.Semaphore(0)
        self.loaded = []
        self.living = weakref.WeakSet()
        self.broken = set()

    def load(self, settings, robot):
        self.loading.release()
        if self.gate is not None:
            assert self.gate.wait(WAIT)
        if settings.checkpoint_dir in self.broken:
            raise CheckpointError(f"{settings.checkpoint_dir}: params/ is missing")
        planner = NamedPlanner(settings.checkpoint_dir)
        self.loaded.append((settings.checkpoint_dir, robot))
        self.living.add(planner)
        return planner


@pytest.fixture
def shelf():
    return Shelf()


@pytest.fixture
def serve(tmp_path, shelf):
    servers = []

    def start(schedule="inline", *, action=ACTION, **planner):
        server = AdminService(
            tmp_path / "state",
            load=False,
            action=action,
            planner={**PLANNER, **SCHEDULES[schedule], **planner},
        )
        server.service._loaders = Loaders(lambda _: server.policy, shelf.load)
        server.service.load()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.close()


def post(server, verb, body=None):
    status, _, text = server.ask("POST", f"/slots/planner/{verb}", body or {})
    return status, json.loads(text)


def living(shelf):
    gc.collect()
    return len(shelf.living)


class Robots:
    """Clients of the action slot that ask one request after the other."""

    def __init__(self, server, count=3):
        self.stop = threading.Event()
        self.failures = []
        self.subtasks = [[] for _ in range(count)]
        self._threads = [
            threading.Thread(target=self._run, args=(server, seen)) for seen in self.subtasks
        ]

    def _run(self, server, seen):
        try:
            with server.connect() as client:
                while not self.stop.is_set():
                    answer = client.infer(OBSERVATION, timeout=WAIT)
                    assert answer["actions"].shape == (3, 2)
                    seen.append(answer["subtask"])
        except BaseException as error:
            self.failures.append(error)

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self._threads:
            thread.join(WAIT)

    def wait_for(self, is_it):
        """Returns when every robot got a subtask for which `is_it` holds, from now on."""
        since = [len(seen) for seen in self.subtasks]
        wait_until(
            lambda: (
                self.failures
                or all(
                    any(is_it(subtask) for subtask in seen[first:])
                    for seen, first in zip(self.subtasks, since, strict=True)
                )
            )
        )


def names(checkpoint):
    return lambda subtask: subtask["text"] == checkpoint


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_robots_see_no_failure_and_no_lack_of_subtasks_while_the_planner_changes(
    serve, shelf, schedule
):
    server = serve(schedule)
    with Robots(server) as robots:
        robots.wait_for(names(FIRST))
        for checkpoint in (OTHER, FIRST, OTHER):
            status, answer = post(server, "reload", {"checkpoint_dir": checkpoint})
            assert (status, answer["checkpoint"]["name"]) == (200, checkpoint)
            robots.wait_for(names(checkpoint))
    assert robots.failures == []
    for seen in robots.subtasks:
        assert all(subtask["text"] and "error" not in subtask for subtask in seen)
    assert [directory for directory, _ in shelf.loaded] == [FIRST, OTHER, FIRST, OTHER]
    # each with the cameras of the action slot's robot
    assert {robot for _, robot in shelf.loaded} == {"two_joints"}
    assert living(shelf) == 1


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_without_room_for_both_robots_act_on_until_the_other_planner_serves(serve, shelf, schedule):
    server = serve(schedule, reload_memory="after")
    slot = server.service.endpoints["planner"].slot
    with Robots(server) as robots:
        robots.wait_for(names(FIRST))
        shelf.gate = threading.Event()
        shelf.loading.acquire()
        reloading = threading.Thread(
            target=post, args=(server, "reload", {"checkpoint_dir": OTHER})
        )
        reloading.start()
        assert shelf.loading.acquire(timeout=WAIT)
        assert living(shelf) == 0
        assert slot.stage is Stage.LOADING
        assert server.service.endpoints["action"].stage is Stage.READY
        # background: on the last subtask, inline: without one
        robots.wait_for(lambda subtask: subtask.get("error", {}).get("code") == "not_ready")
        kept = FIRST if schedule == "background" else ""
        assert {seen[-1]["text"] for seen in robots.subtasks} == {kept}
        shelf.gate.set()
        reloading.join(WAIT)
        robots.wait_for(lambda subtask: subtask["text"] == OTHER and "error" not in subtask)
    assert robots.failures == []
    assert server.get("/readyz")[0] == 200


@pytest.mark.parametrize("memory", ["beside", "after"])
def test_a_planner_that_cannot_be_loaded_leaves_the_former_serving(serve, shelf, memory):
    server = serve()
    shelf.broken.add(OTHER)
    status, answer = post(server, "reload", {"checkpoint_dir": OTHER, "memory": memory})
    assert status == 409
    assert answer["detail"] == f"{OTHER}: params/ is missing; the former checkpoint serves"
    with server.connect() as client:
        assert client.infer(OBSERVATION, timeout=WAIT)["subtask"]["text"] == FIRST
    assert server.get("/readyz")[0] == 200
    assert living(shelf) == 1


def test_unload_leaves_the_robots_their_actions_and_a_reload_their_subtasks(serve, shelf):
    server = serve()
    with server.connect() as client, server.connect("planner") as direct:
        assert post(server, "unload") == (200, {})
        assert living(shelf) == 0
        answer = client.infer(OBSERVATION, timeout=WAIT)
        assert answer["actions"].shape == (3, 2)
        assert answer["subtask"]["error"]["message"].startswith("unloaded by the operator")
        with pytest.raises(ServerError, match="unloaded by the operator"):
            direct.infer(OBSERVATION, timeout=1.0)
        assert server.get("/status")[1]["slots"]["planner"]["stage"] == "unloaded"
        # the other slot's reload leaves the stage alone
        assert server.ask("POST", "/slots/action/reload", {})[0] == 200
        assert server.get("/status")[1]["slots"]["planner"]["stage"] == "unloaded"
        assert post(server, "reload")[0] == 200
        assert client.infer(OBSERVATION, timeout=WAIT)["subtask"]["text"] == FIRST
        assert direct.infer(OBSERVATION, timeout=WAIT)["subtask"]["text"] == FIRST


def test_a_planner_alone_is_reloaded_and_clients_that_come_later_are_told_it(serve):
    server = serve(action=None)
    with server.connect("planner") as client:
        assert post(server, "reload", {"checkpoint_dir": OTHER})[0] == 200
        assert client.infer(OBSERVATION, timeout=WAIT)["subtask"]["text"] == OTHER
        with server.connect("planner") as later:
            assert later.get_server_metadata()["checkpoint"]["name"] == OTHER
    assert server.ask("POST", "/slots/action/reload", {})[0] == 404


def test_a_planner_for_another_robot_is_refused_before_it_serves(serve, shelf):
    server = serve()
    endpoint = server.service.endpoints["planner"]
    endpoint.metadata = {**endpoint.metadata, "robot": "three_joints"}
    status, answer = post(server, "reload", {"checkpoint_dir": OTHER})
    assert status == 409
    assert "robot would change under connected clients" in answer["detail"]
    with server.connect() as client:
        assert client.infer(OBSERVATION, timeout=WAIT)["subtask"]["text"] == FIRST
    assert living(shelf) == 1


def test_one_reload_of_a_server_at_a_time(serve, shelf):
    server = serve()
    shelf.gate = threading.Event()
    shelf.loading.acquire()
    reloading = threading.Thread(target=post, args=(server, "reload"))
    reloading.start()
    assert shelf.loading.acquire(timeout=WAIT)
    status, _, text = server.ask("POST", "/slots/action/reload", {})
    assert status == 409
    assert json.loads(text)["detail"] == "another reload is under way, wait for its end"
    assert server.service.is_loading
    shelf.gate.set()
    reloading.join(WAIT)


def test_a_planner_that_hangs_is_replaced_by_a_new_instance(serve, shelf):
    server = serve(watchdog_s=2.0, max_wait_ms=100)
    endpoint = server.service.endpoints["planner"]
    come_back = threading.Event()
    (first,) = shelf.living
    first.gate = come_back
    with server.connect() as client:
        assert "error" in client.infer(OBSERVATION, timeout=WAIT)["subtask"]
        wait_until(lambda: len(shelf.loaded) == 2 and endpoint.unhealthy_because is None)
        assert client.infer(OBSERVATION, timeout=WAIT)["subtask"]["text"] == FIRST
    assert server.get("/readyz")[0] == 200
    come_back.set()


def test_the_config_digest_follows_the_planner(serve):
    server = serve()
    before = server.get("/status")[1]["config_digest"]
    assert post(server, "reload", {"checkpoint_dir": OTHER})[0] == 200
    assert server.get("/status")[1]["config_digest"] != before


def test_the_command_reloads_and_unloads_the_planner(serve, shelf):
    server = serve()
    host = server.url.removeprefix("http://").rstrip("/")
    run = CliRunner().invoke
    result = run(app, ["reload", "--slot", "planner", "--checkpoint", OTHER, host])
    assert result.exit_code == 0
    assert result.output.startswith(f"serving {OTHER} sha256:")
    result = run(app, ["reload", "--slot", "planner", "--unload", host])
    assert (result.exit_code, result.output) == (0, "unloaded\n")
    assert living(shelf) == 0
    assert run(app, ["reload", "--slot", "camera", host]).exit_code == 2
