"""docs/reference-answers.md lists every key that a server reads, answers and tells of itself."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from server_configs import parse
from server_fakes import SPEC, FakePlanner, FakePolicy

from flash_transport import FlashTransportPolicy
from openpi_flash_models.actions.malformed import Substitute
from openpi_flash_models.checkpoints.digest import CheckpointIdentity
from openpi_flash_server.serving.loading import Loaders
from openpi_flash_server.serving.service import Service
from openpi_flash_server.slot.batch_request import parse_works
from openpi_flash_server.slot.session import split_token

PAGE = (Path(__file__).parent.parent / "docs" / "reference-answers.md").read_text()
PORTS = {"websocket_port": 0, "quic_port": 0}
IMAGE = np.zeros((4, 4, 3), np.uint8)


def section(title):
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def listed(title):
    """The first cells of the section's table."""
    return set(re.findall(r"^\| `(\w+)` \|", section(title), re.MULTILINE))


def row(title, key):
    return re.search(rf"^\| `{key}` \|.*$", section(title), re.MULTILINE)[0]


class Everything(FakePolicy):
    """Answers with all that an answer can hold."""

    spec = replace(
        SPEC,
        config="pi05_two_joints",
        checkpoint=CheckpointIdentity("run/2", f"sha256:{'0' * 64}"),
        metadata={},
    )

    def infer(self, observation, controls=None):
        return replace(super().infer(observation, controls), substitute=Substitute("hold", "x"))


@pytest.fixture(scope="module")
def endpoints(tmp_path_factory):
    values = {
        "action": {"model_config_name": "pi05_sim_arm", "checkpoint_dir": "/x"},
        "planner": {"checkpoint_dir": "/x"},
        "action_transport": PORTS,
        "planner_transport": PORTS,
        "host": "127.0.0.1",
        "state_dir": str(tmp_path_factory.mktemp("state")),
    }
    loaders = Loaders(policy=lambda _: Everything(), planner=lambda _, __: FakePlanner())
    service = Service(parse(values), loaders)
    service.load()
    yield service.endpoints
    service.close(grace=0)


@pytest.fixture(scope="module")
def client(endpoints):
    with FlashTransportPolicy("127.0.0.1", endpoints["action"].quic.port) as client:
        yield client


def test_the_page_lists_every_key_of_the_metadata(client, endpoints):
    assert set(client.get_server_metadata()) == listed("Metadata")
    with FlashTransportPolicy("127.0.0.1", endpoints["planner"].quic.port) as planner:
        told = planner.get_server_metadata()
    assert set(told) < listed("Metadata")
    missing = {key for key in listed("Metadata") if "planner's port |" in row("Metadata", key)}
    assert missing
    assert not missing & set(told)


def test_the_page_lists_every_key_of_an_answer(client):
    request = {"state": np.zeros(2), "prompt": "fold", "observation_stamp": 7}
    client.infer(request)
    answer = client.infer(request)
    assert set(answer) == listed("Answer")
    for key in ("policy_timing", "server_timing", "subtask", "substitute"):
        named = set(re.findall(r"`(\w+)`", row("Answer", key)))
        assert set(answer[key]) <= named


def test_the_page_lists_every_key_that_is_taken_out_of_a_request():
    values = {
        "prompt": "fold",
        "mode": "default",
        "session": "arm",
        "session_token": "secret",
        "deadline_ms": 5,
        "observation_stamp": 1,
        "traceparent": f"00-{'1' * 32}-{'2' * 16}-01",
        "expected_artifact": "sha256:" + "a5" * 32,
        "seed": 0,
        "noise": np.zeros((1, 3, 2), np.float32),
        "num_steps": 1,
        "request_class": "shadow",
        "batch": 1,
        "first_actions": 2,
        "rtc": {"previous_actions": np.zeros((1, 3, 2)), "delay": 1, "execution_horizon": 2},
    }
    assert set(values) == listed("Request")
    message, token = split_token(values)
    assert token == "secret"
    (work,), is_batch = parse_works(message, session="connection")
    assert is_batch
    assert set(work.observation) == {"prompt"}
    assert set(values["rtc"]) <= set(re.findall(r"`(\w+)`", row("Request", "rtc")))


def test_what_the_metadata_says_to_support_is_on_the_page(client):
    text = section("Request") + row("Metadata", "supports")
    for key in client.get_server_metadata()["supports"]:
        assert f"`{key}`" in text, key
