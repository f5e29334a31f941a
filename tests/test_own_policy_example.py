"""examples/own_policy: the policy as its README serves it, and an arm that it moves."""

import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from openpi_client.websocket_client_policy import WebsocketClientPolicy
from schema_check import problems
from server_configs import parse
from typer.testing import CliRunner

from openpi_flash_models.policy.policy_protocol import InferenceControls
from openpi_flash_server.cli import app
from openpi_flash_server.config.json_schema import json_schema
from openpi_flash_server.own_policy.errors import PolicyCallError
from openpi_flash_server.own_policy.own_policy import own_policy

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "own_policy"
PAGE = (EXAMPLE / "README.md").read_text()

# openpi's client connects in the way of older websockets
pytestmark = pytest.mark.filterwarnings("ignore:connect.. must be used as a context manager")


@pytest.fixture
def ports(tmp_path):
    """Starts the README's server on free ports; WebSocket's and QUIC's."""
    (command,) = re.findall(r"\$ openpi-flash (serve .*)", PAGE)
    program = subprocess.Popen(
        [sys.executable, "-m", "openpi_flash_server", *command.split()],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            "OPENPI_STATE_DIR": str(tmp_path),
            "OPENPI_LOG_FORMAT": "text",
            "OPENPI_ADMIN__PORT": "0",
            "OPENPI_ACTION_TRANSPORT__WEBSOCKET_PORT": "0",
            "OPENPI_ACTION_TRANSPORT__QUIC_PORT": "0",
        },
    )
    alarm = threading.Timer(90, program.kill)
    alarm.start()
    lines = []
    for line in program.stdout:
        lines.append(line)
        if line.startswith("Service ready"):
            break
    alarm.cancel()
    found = re.search(r"websocket=\S+:(\d+) quic=\S+:(\d+)", "".join(lines))
    assert found, lines
    yield int(found[1]), int(found[2])
    program.terminate()
    program.communicate(timeout=60)
    assert program.returncode == 0


def run(*command):
    done = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def labels(text):
    return [line.split()[0] for line in text.splitlines() if line[:1].strip()]


def test_the_readme_shows_what_the_test_command_prints(ports):
    told = run("-m", "openpi_flash_server", "test", "quic", "127.0.0.1", "--port", str(ports[1]))
    (shown,) = re.findall(r"\$ openpi-flash test .*\n((?:.*\n)*?)```", PAGE)
    assert labels(told) == labels(shown)
    for line in shown.splitlines():
        if line.split()[0] in ("model", "observation", "answer", "action_horizon"):
            assert line in told


def test_the_policy_moves_an_arm(ports):
    arm = "examples/plain_python/run_arm.py"
    output = run(arm, "--seconds", "4", "--port", str(ports[1]))
    played, positions = re.fullmatch(
        r"played (\d+) chunks; the arm stands at (.*)\n", output
    ).groups()
    assert int(played) > 0
    stands = [float(number) for number in positions.strip("[]").split()]
    assert abs(stands[4]) > 0.05, "the wrist"
    assert np.abs(np.delete(stands, 4)).max() < 0.01, "nothing else"


def test_openpis_own_client_gets_its_chunk(ports):
    client = WebsocketClientPolicy("127.0.0.1", ports[0])
    metadata = client.get_server_metadata()
    assert [action["name"] for action in metadata["actions"]] == metadata["action_names"]
    state = np.array([0, 0, 0, 0, 0.38, 0, 0.5])
    actions = client.infer({"observation/state": state})["actions"]
    assert actions.shape == (50, 7)
    assert actions[0].tolist() == state.tolist()
    assert actions[-1, 4] == pytest.approx(-0.4), "it turns back"
    client._ws.close()


def test_its_configuration_fits_the_schema_that_it_names():
    values = json.loads((EXAMPLE / "server.json").read_text())
    assert (EXAMPLE / values["$schema"]).resolve() == ROOT / "config" / "server_schema.json"
    assert problems(json_schema(), values) == []


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


def test_what_the_page_shows_is_a_policy_and_a_configuration():
    page = (ROOT / "docs" / "own-policy.md").read_text()
    program, _ = blocks(page, "python")
    found = {}
    exec(compile(program, "docs/own-policy.md", "exec"), found)
    policy = own_policy(found["Still"](), "python:my_policies:Still")
    actions = policy.infer({"observation/state": np.arange(7)}).actions
    assert actions.shape == (50, 7)
    with pytest.raises(PolicyCallError) as caught:
        policy.infer({})
    assert f"PolicyCallError: {caught.value}" in page
    (configuration,) = blocks(page, "json")
    assert parse(configuration).action.default_prompt == "stand still"


def test_the_page_shows_a_policy_that_gives_its_first_steps():
    _, program = blocks((ROOT / "docs" / "own-policy.md").read_text(), "python")
    found, first = {}, []
    exec(compile(program, "docs/own-policy.md", "exec"), found)
    policy = own_policy(found["Streams"](), "python:my_streams:Streams")
    result = policy.infer_with_first({}, InferenceControls(), 10, first.append)
    assert [part.shape for part in first] == [(10, 7)]
    assert result.actions.shape == policy.infer({}).actions.shape == (50, 7)


@pytest.mark.parametrize("command", ["test", "load"])
def test_every_flag_that_the_servers_page_names_exists(command):
    page = (ROOT / "docs" / "server.md").read_text()
    section = page.split("## Testing and loading a server")[1].split("\n## ")[0]
    of_test, of_load = section.split("$ openpi-flash load")
    told = CliRunner().invoke(app, [command, "--help"]).output
    for flag in re.findall(r"(?<![\w-])--?[a-z][\w-]*", of_test if command == "test" else of_load):
        assert re.search(rf"{flag}\b", told), flag
