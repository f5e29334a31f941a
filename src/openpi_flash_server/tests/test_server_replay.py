"""What was recorded of a server is sent to one again, and the answers are compared."""

import dataclasses

import numpy as np
import pytest
from server_fakes import SPEC, WAIT, FakePolicy
from test_server_service import FREE_PORTS, config_of
from typer.testing import CliRunner

from flash_transport import ServerError, WebsocketPolicy
from openpi_flash_models.errors import ObservationError
from openpi_flash_models.policy.policy_protocol import ActionResult
from openpi_flash_server.cli import app
from openpi_flash_server.recording.reading import Exchange, read_recording
from openpi_flash_server.recording.replay import message_again, replay
from openpi_flash_server.serving.endpoint import StartError
from openpi_flash_server.serving.loading import Loaders
from openpi_flash_server.serving.service import Service


class NoisyPolicy(FakePolicy):
    """Answers with the state, the noise of the seed, and a bias, as other weights would."""

    def __init__(self, bias=0.0, spec=SPEC):
        super().__init__()
        self.bias = bias
        self.spec = spec

    def infer(self, observation, controls=None):
        if "state" not in observation:
            raise ObservationError("state", "missing, expected float32 [2]")
        noise = np.random.default_rng(controls.seed).normal(size=(3, 2))
        noise[:, 1] += self.bias
        return ActionResult(actions=observation["state"] + noise, infer_ms=1.0)


@pytest.fixture
def serve(tmp_path):
    services = []

    def start(policy, **values):
        config = config_of(
            tmp_path,
            action={"model_config_name": "null"},
            action_transport=FREE_PORTS,
            **values,
        )
        services.append(Service(config, Loaders(policy=lambda _: policy, planner=lambda *_: None)))
        services[-1].load()
        return services[-1]

    yield start
    for service in services:
        assert service.close(grace=WAIT)


@pytest.fixture
def recording(serve, tmp_path):
    """A file of a server that answered three requests, one of two observations, and refused one."""
    directory = tmp_path / "records"
    service = serve(NoisyPolicy(), recording={"directory": str(directory)})
    with WebsocketPolicy("127.0.0.1", port_of(service)) as client:
        client.infer({"state": np.zeros(2)}, WAIT)
        client.infer({"state": np.ones(2), "seed": 7, "deadline_ms": 60_000}, WAIT)
        client.infer({"state": np.ones((2, 2)), "batch": 2}, WAIT)
        with pytest.raises(ServerError):
            client.infer({"prompt": "no state"}, WAIT)
    assert service.close(grace=WAIT)
    (file,) = directory.iterdir()
    return file


def port_of(service):
    return service.endpoints["action"].websocket.port


def run(file, service, *options):
    arguments = ["replay", str(file), "--server", "127.0.0.1", "--transport", "websocket"]
    port = "1" if service is None else str(port_of(service))
    return CliRunner().invoke(app, [*arguments, "--port", port, *options])


def test_the_same_weights_answer_bit_for_bit_also_where_the_client_chose_no_seed(recording, serve):
    result = run(recording, serve(NoisyPolicy()))
    assert result.exit_code == 0, result.output
    assert f"{recording}: 4 requests" in result.output
    assert "with a seed             5         5         0         0  0" in result.output


def test_other_weights_are_told_apart_and_fail_the_command(recording, serve):
    service = serve(NoisyPolicy(bias=0.125))
    result = run(recording, service)
    assert result.exit_code == 1
    # the refused request is refused again, which is equal
    assert "with a seed             5         1         0         4  0.125" in result.output
    lines = [line.split() for line in result.output.splitlines()]
    assert ["shoulder", "0"] in lines
    assert ["elbow", "0.125"] in lines
    assert "request 1: actions[" in result.output
    assert run(recording, service, "--tolerance", "0.2").exit_code == 0
    assert run(recording, service, "--limit", "1").output.count("different  ") >= 1


def test_an_error_that_is_new_is_a_difference(recording, serve):
    class Broken(NoisyPolicy):
        def infer(self, observation, controls=None):
            raise RuntimeError("out of memory")

    result = run(recording, serve(Broken()))
    assert result.exit_code == 1
    assert "request 1: an answer became internal" in result.output
    assert "request 4: bad_request became internal" in result.output


def test_what_cannot_be_sent_again_is_said_in_one_line(recording, serve, tmp_path):
    missing = run(tmp_path / "none.mcap", None)
    assert (missing.exit_code, missing.output) == (
        2,
        f"error: {tmp_path}/none.mcap: no such file or directory\n",
    )
    wrong = tmp_path / "server.json"
    wrong.write_text("{}")
    assert run(wrong, None).exit_code == 2
    empty = run(recording, None, "--slot", "planner")
    assert (empty.exit_code, empty.output) == (
        2,
        f"error: {recording} holds no requests of the slot planner\n",
    )
    away = run(recording, None, "--timeout", "1")
    assert away.exit_code == 1
    assert "error: " in away.output


def test_a_policy_without_seeds_is_asked_without_and_its_differences_are_told_only(serve, tmp_path):
    directory = tmp_path / "records"
    spec = dataclasses.replace(SPEC, supports=())
    service = serve(NoisyPolicy(spec=spec), recording={"directory": str(directory)})
    with WebsocketPolicy("127.0.0.1", port_of(service)) as client:
        client.infer({"state": np.zeros(2)}, WAIT)
    assert service.close(grace=WAIT)
    (file,) = directory.iterdir()
    assert "seed" not in read_recording(file).exchanges[0].messages[0]
    result = run(file, serve(NoisyPolicy(spec=spec)))
    assert result.exit_code == 0
    assert "no request has a seed or noise" in result.output


def test_a_folder_that_cannot_be_written_to_ends_the_start_with_its_setting(serve, tmp_path):
    taken = tmp_path / "file"
    taken.write_text("")
    with pytest.raises(StartError) as refused:
        serve(NoisyPolicy(), recording={"directory": str(taken / "records")})
    assert str(refused.value) == f"recording.directory: {taken}/records: not a directory"


def test_requests_that_had_no_answer_of_the_model_are_not_sent():
    asked = []

    def exchange(number, answer, messages=({"seed": 1},)):
        return Exchange(number, "robot", messages, answer, 0)

    report = replay(
        [
            exchange(1, {"error": {"code": "superseded", "message": ""}}),
            exchange(2, {"error": {"code": "not_ready", "message": ""}}),
            exchange(3, None),
            exchange(4, {"error": {"code": "bad_request", "message": ""}}, ()),
            exchange(5, {"result": {}}),
        ],
        lambda message: asked.append(message) or {"result": {}},
    )
    assert len(asked) == 1
    assert report.skipped == {
        "superseded": 1,
        "not_ready": 1,
        "without an answer in the file": 1,
        "unreadable": 1,
    }
    assert report.is_equal


def test_a_replayed_request_gives_way_to_robots_and_has_no_deadline():
    message = {
        "state": 1,
        "seed": 3,
        "session": "s" * 128,
        "request_class": "robot",
        "deadline_ms": 5,
        "expected_artifact": "sha256:" + "0" * 64,
    }
    again = message_again(message)
    assert again == {
        "state": 1,
        "seed": 3,
        "session": ("replay of " + "s" * 128)[:128],
        "request_class": "evaluation",
    }
