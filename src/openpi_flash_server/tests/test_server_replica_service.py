"""A service whose policy runs on replicas, as its operator sees it. Without Ray."""

import sys

import numpy as np
import pytest
from admin_service import AdminService, CheckpointPolicy
from fake_replicas import FakeEngine
from served_slot import wait_until
from server_fakes import WAIT, FakePolicy

from openpi_flash_server.config.action_settings import ActionSettings
from openpi_flash_server.replicas.replicas import Replicas
from openpi_flash_server.replicas.replicated_policy import ReplicatedPolicy
from openpi_flash_server.serving.endpoint import StartError
from openpi_flash_server.serving.loading import Loaders
from openpi_flash_server.serving.replica_loading import load_replicas

ON_RAY = {"model_config_name": "null", "engine": "ray", "replicas": 2}


class OnReplicas:
    """A service whose policies run on replicas of fakes."""

    def __init__(self, directory, **values):
        self.engines, self.counts = [], []
        self.server = AdminService(directory, load=False, action=ON_RAY, **values)
        self.server.service._loaders = Loaders(self.load, lambda *_: self.server.planner)
        self.server.service.load()
        self.wait_for(2)

    def load(self, settings):
        self.engines.append(FakeEngine(lambda number: CheckpointPolicy()))
        self.counts.append(settings.replicas)
        return ReplicatedPolicy(Replicas(self.engines[-1], settings.replicas))

    @property
    def endpoint(self):
        return self.server.service.endpoints["action"]

    def wait_for(self, ready):
        wait_until(lambda: self.endpoint.replicas.counts.ready == ready)

    def infer(self):
        with self.server.connect() as client:
            return client.infer({"state": np.ones(2)}, timeout=WAIT)


@pytest.fixture
def serve(tmp_path):
    services = []

    def start(**values):
        services.append(OnReplicas(tmp_path / "state", **values))
        return services[-1]

    yield start
    for one in services:
        assert one.server.close()
        assert all(engine.is_closed for engine in one.engines)


def test_the_operator_sees_replicas_and_what_became_of_them(serve):
    one = serve()
    assert one.infer()["actions"].shape == (3, 2)
    one.engines[0].replicas[0].die()
    one.wait_for(2)
    counts = {"wanted": 2, "ready": 2, "starting": 0, "stopping": 0, "lost": 1}
    assert one.server.get("/status")[1]["slots"]["action"]["replicas"] == counts
    page = one.server.get("/metrics")[1]
    assert 'openpi_flash_replicas{slot="action",state="ready"} 2.0' in page
    assert 'openpi_flash_replicas_lost_total{slot="action"} 1.0' in page


def test_the_operator_changes_their_number_while_they_serve(serve):
    one = serve()
    assert one.server.get("/config")[1]["replicas"] == 2
    status, settings = one.server.patch(replicas=3)
    assert (status, settings["replicas"]) == (200, 3)
    one.wait_for(3)
    one.server.patch(replicas=1)
    one.wait_for(1)
    assert one.infer()["actions"].shape == (3, 2)
    assert one.server.patch(replicas=0)[0] == 422


def test_a_server_without_replicas_has_no_number_to_change(serve_admin):
    server = serve_admin()
    assert "replicas" not in server.get("/config")[1]
    status, answer = server.patch(replicas=2)
    assert status == 422
    assert "this server has no replicas" in str(answer)


def test_a_reload_starts_as_many_as_there_were_and_ends_the_former(serve):
    one = serve()
    one.server.patch(replicas=3)
    one.wait_for(3)
    one.server.service.swaps["action"].reload("/other")
    assert one.counts == [2, 3]
    assert one.engines[0].is_closed
    assert not one.engines[1].is_closed
    one.wait_for(3)
    assert one.infer()["actions"].shape == (3, 2)


def test_beside_a_planner_actions_follow_its_subtasks(serve):
    one = serve(planner={"checkpoint_dir": "/models/planner"})
    with one.server.connect() as client:
        answer = client.infer({"state": np.ones(2), "prompt": "sort"}, timeout=WAIT)
    assert answer["subtask"]["text"] == "step 1 of sort"
    seen = [policy for engine in one.engines for policy in engine.replicas]
    prompts = [each["prompt"] for one in seen for each in one.policy.seen]
    assert prompts == ["sort. Subtask: step 1 of sort"]


def test_first_actions_are_not_promised_from_another_process():
    import dataclasses

    class Streaming(FakePolicy):
        spec = dataclasses.replace(FakePolicy.spec, supports=("seed", "first_actions"))

    policy = ReplicatedPolicy(Replicas(FakeEngine(lambda number: Streaming()), 1))
    assert policy.spec.supports == ("seed",)
    policy.close()


def test_without_ray_the_start_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "openpi_flash_server.replicas.ray_engine", raising=False)
    with pytest.raises(StartError, match=r"pip install '\./src/openpi_flash_server\[ray\]'"):
        load_replicas(ActionSettings(model_config_name="null", engine="ray"))


def test_more_than_one_replica_runs_on_ray_and_one_does_not():
    settings = {"model_config_name": "null"}
    assert not ActionSettings(**settings).runs_on_ray
    assert ActionSettings(**settings, engine="ray").runs_on_ray
    assert ActionSettings(**settings, replicas=2).runs_on_ray
    alone = ActionSettings(**settings, replicas=2, ray={"address": "a:1"}).of_one_replica
    assert alone == ActionSettings(**settings, engine="local")
