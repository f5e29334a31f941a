"""A server whose policy runs on actors of Ray, with a real cluster on this machine.

`scripts/test-ray` installs Ray and runs these; without Ray they are skipped.
"""

import concurrent.futures
import os
import signal
import time

import numpy as np
import pytest
from served_slot import wait_until
from server_fakes import WAIT
from typer.testing import CliRunner

pytest.importorskip("ray", reason="Ray is not installed: scripts/test-ray installs and tests it")

from flash_transport import FlashTransportPolicy, ServerError
from openpi_flash_server.cli import app
from openpi_flash_server.config.server_config import ServerConfig
from openpi_flash_server.serving.endpoint import StartError
from openpi_flash_server.serving.loading import LOADERS
from openpi_flash_server.serving.service import Service

# what Ray itself leaves open is no matter of these tests
pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

START = 240.0
"""s for actors to come up: a busy machine takes its time to import numpy."""


@pytest.fixture(scope="module")
def cluster():
    """One cluster for all tests: it takes 10 s to start."""
    import ray

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [os.path.dirname(__file__), os.environ.get("PYTHONPATH", "")]  # noqa: PTH120
    )
    context = ray.init(
        num_cpus=4,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=256 * 2**20,
    )
    yield context.address_info["address"]
    ray.shutdown()


class Served:
    """A service on replicas, and its clients."""

    def __init__(self, state_dir, *, policy="python:ray_policies:Sleeper", replicas=2, **action):
        self.config = ServerConfig.model_validate(
            {
                "host": "127.0.0.1",
                "state_dir": str(state_dir),
                "action": {
                    "model_config_name": policy,
                    "engine": "ray",
                    "replicas": replicas,
                    **action,
                },
                "action_transport": {"websocket_port": 0, "quic_port": 0},
                "admin": {"enabled": False},
            }
        )
        self.service = Service(self.config, LOADERS)
        try:
            self.service.load()
        except BaseException:
            self.service.close(grace=0)
            raise
        self.endpoint = self.service.endpoints["action"]
        self.wait_for(replicas)

    @property
    def counts(self):
        return self.endpoint.replicas.counts

    def wait_for(self, ready):
        deadline = time.monotonic() + START
        while self.counts.ready != ready:
            assert time.monotonic() < deadline, self.counts
            time.sleep(0.05)

    def connect(self, session="robot"):
        return FlashTransportPolicy(
            "127.0.0.1",
            self.endpoint.quic.port,
            server_fingerprint=self.endpoint.quic.fingerprint,
            session=session,
            connect_timeout=WAIT,
        )


@pytest.fixture
def serve(cluster, tmp_path):
    servers = []

    def start(**options):
        servers.append(Served(tmp_path / "state", **options))
        return servers[-1]

    yield start
    for server in servers:
        assert server.service.close(grace=WAIT)


def flood(server, robots, seconds, **message):
    """Each robot asks again as soon as it is answered; returns all answers and errors."""

    def drive(number):
        found = []
        with server.connect(f"robot {number}") as client:
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                try:
                    found.append(client.infer({"value": number, **message}, timeout=60))
                except ServerError as error:
                    found.append(error)
        return found

    with concurrent.futures.ThreadPoolExecutor(robots) as pool:
        return [found for one in pool.map(drive, range(robots)) for found in one]


ARM = {
    "observation/scene_image": np.zeros((224, 224, 3), np.uint8),
    "observation/wrist_image": np.zeros((224, 224, 3), np.uint8),
    "observation/state": np.array([0.0, -0.6, 1.0, 0.9, 0.0, 0.0, 0.0], np.float32),
    "prompt": "stack the cubes",
    "seed": 3,
}


def ask_model(server, session, *, times):
    """Chunks of the simulated arm's policy, all for the same observation and seed."""
    with server.connect(session) as client:
        return [client.infer(ARM, timeout=120)["actions"] for _ in range(times)]


def test_an_image_reaches_the_policy_as_a_view_of_the_object_store(serve):
    server = serve(replicas=1)
    image = np.arange(3 * 224 * 224 * 3, dtype=np.uint32).astype(np.uint8).reshape(3, 224, 224, 3)
    with server.connect() as client:
        answer = client.infer({"image": image, "value": 7.0}, timeout=WAIT)
    assert answer["owns_image"] is False
    assert answer["sum"] == int(image[..., 0].sum(dtype=np.int64))
    assert (answer["actions"] == 7.0).all()
    assert answer["process"] != os.getpid()


@pytest.mark.parametrize("in_flight", [1, 2])
def test_throughput_grows_with_the_replicas(serve, in_flight):
    ray = {"requests_in_flight": in_flight}
    server = serve(replicas=1, ray=ray)
    rates = {}
    for replicas in (1, 2, 4):
        server.endpoint.replicas.resize(replicas)
        server.wait_for(replicas)
        flood(server, 3 * replicas, 1.0)
        answers = flood(server, 3 * replicas, 4.0)
        assert not [one for one in answers if isinstance(one, Exception)]
        rates[replicas] = len(answers) / 4.0
        used = {one["process"] for one in answers}
        assert len(used) == replicas
    # with room: a busy machine has two cores for six processes
    assert rates[2] / rates[1] >= 1.4, rates
    assert rates[4] / rates[1] >= 2.0, rates


def test_kills_under_load_fail_no_request(serve):
    server = serve(replicas=4)
    processes = {one["process"] for one in flood(server, 8, 2.0)}
    assert len(processes) == 4
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        answers = pool.submit(flood, server, 8, 6.0)
        for process in sorted(processes)[:2]:
            time.sleep(1.0)
            os.kill(process, signal.SIGKILL)
        found = answers.result()
    assert [one for one in found if isinstance(one, Exception)] == []
    assert server.counts.lost == 2
    server.wait_for(4)
    assert len({one["process"] for one in flood(server, 8, 2.0)} - processes) == 2


def test_a_request_that_kills_its_replica_fails_after_two_and_the_server_goes_on(serve):
    server = serve(replicas=3)
    with server.connect("poison") as client:
        with pytest.raises(ServerError, match="the replica was lost: ActorDiedError.*as was the"):
            client.infer({"die": True}, timeout=60)
        assert client.infer({"value": 1.0}, timeout=60)["actions"].shape == (3, 2)
    assert server.counts.lost == 2
    server.wait_for(3)


def test_a_call_that_hangs_costs_its_replica_and_nothing_else(serve):
    server = serve(replicas=2, watchdog_s=2.0)
    with server.connect("slow") as slow, server.connect("other") as other:
        hanging = slow.submit({"seconds": 3600.0})
        for _ in range(20):
            other.infer({}, timeout=60)
        with pytest.raises(ServerError, match="the model has not answered for 2 s"):
            hanging.result(60)
    server.wait_for(2)
    assert server.counts.lost == 1


def test_scaling_up_and_down_under_load_fails_no_request(serve):
    server = serve(replicas=1)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        answers = pool.submit(flood, server, 6, 12.0)
        server.endpoint.replicas.resize(3)
        server.wait_for(3)
        time.sleep(1.0)
        server.endpoint.replicas.resize(1)
        found = answers.result()
    assert [one for one in found if isinstance(one, Exception)] == []
    assert server.counts.ready == 1
    assert server.counts.lost == 0


def test_a_reload_takes_over_under_load_and_fails_no_request(serve):
    server = serve(replicas=2)
    former = {one["process"] for one in flood(server, 4, 1.0)}
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        answers = pool.submit(flood, server, 4, 10.0)
        server.service.swaps["action"].reload()
        found = answers.result()
    assert [one for one in found if isinstance(one, Exception)] == []
    server.wait_for(2)
    assert not former & {one["process"] for one in flood(server, 4, 1.0)}
    for process in former:
        wait_until(lambda process=process: not _is_alive(process))


def test_a_policy_with_state_keeps_each_session_on_its_replica(serve):
    server = serve(policy="python:ray_policies:Counter", replicas=2)
    with server.connect("left") as left, server.connect("right") as right:
        answers = [(left.infer({}, timeout=60), right.infer({}, timeout=60)) for _ in range(5)]
        assert [[one["requests"] for one in pair] for pair in answers] == [
            [turn, turn] for turn in range(1, 6)
        ]
        assert len({pair[0]["process"] for pair in answers}) == 1
        left.reset()
        assert left.infer({}, timeout=60)["requests"] == 1
        assert right.infer({}, timeout=60)["requests"] == 6


def test_a_model_of_ours_answers_the_same_on_every_replica_and_after_a_kill(serve, tmp_path):
    made = CliRunner().invoke(app, ["make-demo-checkpoint", str(tmp_path / "demo")])
    assert made.exit_code == 0, made.output
    checkpoint = str(tmp_path / "demo" / "action")
    server = serve(policy="pi05_sim_arm", checkpoint_dir=checkpoint, replicas=2)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda name: ask_model(server, name, times=3), ("a", "b")))
    server.wait_for(2)
    chunks = [chunk for one in found for chunk in one]
    assert all(np.array_equal(chunk, chunks[0]) for chunk in chunks)
    import ray

    first = next(iter(server.endpoint.replicas._processes.values()))
    os.kill(ray.get(first._actor.__ray_call__.remote(lambda _: os.getpid())), signal.SIGKILL)
    assert np.array_equal(ask_model(server, "a", times=1)[0], chunks[0])


def test_a_service_that_stops_answers_what_it_accepted_and_leaves_no_process(serve):
    server = serve(replicas=2)
    with server.connect("a") as first, server.connect("b") as second:
        futures = [one.submit({"seconds": 1.0}) for one in (first, second)]
        wait_until(lambda: len(server.endpoint.slot._runs) == 2)
        assert server.service.close(grace=30.0)
        processes = [future.result(WAIT)["process"] for future in futures]
    for process in processes:
        wait_until(lambda process=process: not _is_alive(process))


def test_a_policy_that_does_not_load_ends_the_start_with_its_reason(cluster, tmp_path):
    with pytest.raises(StartError, match="no_such_module"):
        Served(tmp_path, policy="python:no_such_module:Policy")


def _is_alive(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{process}/stat") as file:  # noqa: PTH123
        return file.read().rpartition(")")[2].split()[0] != "Z"
