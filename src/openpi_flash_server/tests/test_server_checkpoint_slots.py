"""Sessions of several checkpoints of one directory: never answered by other weights."""

import numpy as np
import pytest
from positronic_client import PositronicSession
from server_fakes import WAIT, FakePolicy
from test_server_service import FREE_PORTS, config_of

from openpi_flash_models.errors import CheckpointError
from openpi_flash_models.policy.policy_protocol import ActionResult
from openpi_flash_server.recording.reading import read_recording
from openpi_flash_server.serving.loading import Loaders
from openpi_flash_server.serving.service import Service

# Positronic's client connects in the way of older websockets
pytestmark = pytest.mark.filterwarnings("ignore:connect.. must be used as a context manager")


class StepPolicy(FakePolicy):
    """Answers with the number of its checkpoint as the grip."""

    def __init__(self, step):
        super().__init__()
        self.step = step

    def infer(self, observation, controls=None):
        row = [0, 0, 0, 1, 0, 0, 0, self.step]
        return ActionResult(actions=np.tile(np.array(row, float), (3, 1)), infer_ms=1.0)


@pytest.fixture
def serve(tmp_path):
    services = []
    for step in ("1000", "2000", "3000", "4000"):
        (tmp_path / "exp" / step).mkdir(parents=True)

    def load(settings):
        step = settings.checkpoint_dir.rpartition("/")[2]
        if step == "4000":
            raise CheckpointError("params/ is missing")
        return StepPolicy(int(step))

    def start(own="exp/1000", *, recording=None, **positronic):
        config = config_of(
            tmp_path,
            action={"model_config_name": "pi05_droid", "checkpoint_dir": str(tmp_path / own)},
            positronic={"codec": "ee", "checkpoints_dir": str(tmp_path / "exp"), **positronic},
            action_transport=FREE_PORTS,
            recording=recording or {},
        )
        services.append(Service(config, Loaders(policy=load, planner=lambda *_: None)))
        services[-1].load()
        return services[-1]

    yield start
    for service in services:
        assert service.close(grace=WAIT)


def port_of(service):
    return service.endpoints["action"].websocket.port


def weights_of(session):
    return session.infer()["result"][0]["target_grip"]


def test_each_session_is_answered_by_the_checkpoint_that_it_was_told(serve):
    port = port_of(serve(max_checkpoints=2))
    sessions = {name: PositronicSession(port, name) for name in (None, "2000", "3000", "1000")}
    for name, session in sessions.items():
        assert session.until_ready()["meta"]["checkpoint_id"] == (name or "1000")
    for name, session in sessions.items():
        assert weights_of(session) == float(name or "1000")
        session.connection.close()


def test_a_checkpoint_without_room_waits_until_the_other_ones_session_ends(serve):
    port = port_of(serve())
    with PositronicSession(port, "2000") as first:
        assert first.until_ready()["status"] == "ready"
        with PositronicSession(port, "3000") as second:
            # the first keeps its weights as long as it lasts
            assert weights_of(first) == 2000
            first.connection.close()
            assert second.until_ready()["meta"]["checkpoint_id"] == "3000"
            assert weights_of(second) == 3000
    with PositronicSession(port, "checkpoint-2000") as again:
        assert again.until_ready()["meta"]["checkpoint_id"] == "2000"
        assert weights_of(again) == 2000


def test_a_name_means_the_directorys_checkpoint_and_not_another_one_of_that_name(serve, tmp_path):
    (tmp_path / "other" / "2000").mkdir(parents=True)
    service = serve("other/2000")
    slot = service.endpoints["action"].slot
    port = port_of(service)
    with PositronicSession(port) as own, PositronicSession(port, "2000") as listed:
        assert own.until_ready()["meta"]["checkpoint_path"] == str(tmp_path / "other")
        assert listed.until_ready()["status"] == "ready"
        weights_of(listed)
        # the session did not get the action slot
        assert slot._sequence == 0


def test_sessions_of_other_checkpoints_are_recorded_too(serve, tmp_path):
    service = serve(recording={"directory": str(tmp_path / "records")})
    with PositronicSession(port_of(service), "3000") as session:
        session.until_ready()
        weights_of(session)
    assert service.close(grace=WAIT)
    (file,) = (tmp_path / "records").iterdir()
    (exchange,) = read_recording(file, slot="action-3000").exchanges
    assert exchange.messages[0]["prompt"] == "stack the cubes"
    assert exchange.answer["result"]["actions"][0, 7] == 3000


def test_a_checkpoint_that_cannot_be_loaded_fails_its_session_alone(serve):
    port = port_of(serve())
    with PositronicSession(port, "4000") as broken:
        frame = broken.until_ready()
        assert frame["status"] == "error"
        assert frame["error"] == "checkpoint 4000 cannot be loaded: params/ is missing"
    with PositronicSession(port, "5000") as unknown:
        assert unknown.until_ready()["error"] == (
            "Checkpoint not found or invalid ID: 5000. Known: 1000, 2000, 3000, 4000"
        )
    with PositronicSession(port, "3000") as session:
        assert session.until_ready()["status"] == "ready"
        assert weights_of(session) == 3000


def test_a_session_may_name_the_checkpoint_of_a_server_without_a_directory(serve):
    port = port_of(serve("exp/2000", checkpoints_dir=None))
    with PositronicSession(port, "2000") as session:
        assert session.until_ready()["meta"]["checkpoint_id"] == "2000"
        assert weights_of(session) == 2000


def test_a_swap_of_the_action_slots_weights_fails_sessions_that_were_told_others(serve, tmp_path):
    service = serve()
    slot = service.endpoints["action"]
    digests = {name: f"sha256:{name * 16}" for name in ("1000", "2000")}
    service.endpoints["action"].metadata = {"checkpoint": {"digest": digests["2000"]}}
    with PositronicSession(port_of(service)) as session:
        session.until_ready()
        # these fakes have no weights, so any expectation of some is refused
        assert digests["2000"] in session.infer()["error"]
    assert slot.slot.not_ready_because is None
