"""`openpi-flash test` and `openpi-flash load` against real servers."""

import dataclasses
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile

import numpy as np
import pytest
from server_configs import NULL_ACTION, PLANNER, parse
from server_fakes import SPEC, FakePlanner, FakePolicy
from typer.testing import CliRunner

from openpi_flash_models.policy.policy_protocol import ActionResult
from openpi_flash_server.cli import app
from openpi_flash_server.contract.inputs import parse_inputs
from openpi_flash_server.serving.loading import LOADERS, Loaders
from openpi_flash_server.serving.service import Service


@pytest.fixture
def serve(tmp_path):
    """Opens a server of fixed chunks, or of fakes; returns its endpoints."""
    opened = []

    def open_service(loaders=LOADERS, **more):
        ports = {"websocket_port": 0, "quic_port": 0}
        values = {
            "action": NULL_ACTION,
            "action_transport": ports,
            "planner_transport": ports,
            "host": "127.0.0.1",
            "state_dir": str(tmp_path / "state"),
            **more,
        }
        service = Service(parse(values), loaders)
        opened.append(service)
        service.load()
        return service.endpoints

    yield open_service
    for service in opened:
        service.close(grace=0)


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def rows(result):
    return dict(line.split(maxsplit=1) for line in result.output.splitlines() if line[:1] != " ")


class Stateful(FakePolicy):
    """A fake that says what it reads, as our policies do."""

    def __init__(self, **options):
        super().__init__(**options)
        inputs = parse_inputs([{"path": ["state"], "kind": "joints", "shape": [2]}])
        self.spec = dataclasses.replace(SPEC, inputs=inputs)


FAKES = Loaders(policy=lambda settings: Stateful(), planner=lambda settings, robot: FakePlanner())


def test_quic_and_websocket_are_tested_with_percentiles(serve):
    endpoint = serve()["action"]
    for target, port in (("quic", endpoint.quic.port), ("ws", endpoint.websocket.port)):
        result = run("test", target, "127.0.0.1", "--port", port, "-n", 5)
        assert result.exit_code == 0, result.output
        found = rows(result)
        assert found["model"] == "null"
        assert found["warm-up"].startswith("3 calls, the first in ")
        assert found["calls"] == "5 of 5 answered"
        assert found["answer"] == "actions float64[50, 32]"
        assert found["total"].split() == sorted(found["total"].split(), key=float)
        assert len(found["network"].split()) == 5


def test_a_uri_and_a_socket_are_tested_too(serve):
    with tempfile.TemporaryDirectory(prefix="flash-") as directory:
        path = f"{directory}/s"
        ports = {"websocket_port": 0, "quic_port": 0, "unix_socket_path": path}
        endpoint = serve(action_transport=ports)["action"]
        uri = f"ws://127.0.0.1:{endpoint.websocket.port}"
        assert run("test", "ws", uri, "-n", 2).exit_code == 0
        for host in (path, f"unix:{path}"):
            result = run("test", "unix", host, "-n", 2)
            assert result.exit_code == 0, result.output
            assert rows(result)["unix"].startswith("socket     connected in")


def test_json_is_one_object_with_all_of_it(serve):
    port = serve()["action"].quic.port
    result = run("test", "quic", "127.0.0.1", "--port", port, "-n", 4, "--warmup", 1, "--json")
    told = json.loads(result.stdout)
    assert (told["transport"], told["model"], told["action_horizon"]) == ("QUIC", "null", 50)
    assert (told["calls"], told["answered"], told["failures"]) == (4, 4, [])
    assert len(told["warmup_ms"]) == 1
    assert set(told["times_ms"]) == {"total", "network", "decode", "queue", "infer"}
    assert set(told["times_ms"]["total"]) == {"min", "p50", "p90", "p99", "max"}


def test_observations_are_what_the_server_reads(serve):
    endpoint = serve(FAKES)["action"]
    result = run("test", "quic", "127.0.0.1", "--port", endpoint.quic.port, "-n", 2)
    assert result.exit_code == 0, result.output
    assert rows(result)["observation"] == "state float32[2]"
    assert rows(result)["answer"] == "actions float64[3, 2]"


def test_hebbians_flags_are_taken(serve):
    endpoint = serve()["action"]
    port = endpoint.quic.port
    flags = ("--quic-port", port, "--embodiment", "droid", "--mode", "action_only", "-n", 2)
    result = run("test", "quic", "127.0.0.1", *flags)
    assert result.exit_code == 0, result.output
    assert "observation/wrist_image_left uint8[224, 224, 3]" in rows(result)["observation"]


def test_a_planner_is_tested_by_itself_and_through_the_action_slot(serve):
    endpoints = serve(FAKES, planner=PLANNER)
    planner = endpoints["planner"]
    common = ("-n", 2, "--prompt", "fold", "--robot", "droid")
    result = run("test", "planner", "127.0.0.1", "--port", planner.quic.port, *common)
    assert result.exit_code == 0, result.output
    assert rows(result)["answer"] == 'subtask "step 5 of fold"'
    uri = f"ws://127.0.0.1:{planner.websocket.port}"
    assert run("test", "planner", uri, *common).exit_code == 0
    port = endpoints["action"].quic.port
    flags = ("--port", port, "-n", 2)
    result = run("test", "quic", "127.0.0.1", *flags, "--mode", "subtask_only")
    assert result.exit_code == 0, result.output
    assert rows(result)["answer"].startswith('subtask "step ')
    result = run("test", "quic", "127.0.0.1", *flags)
    assert rows(result)["answer"].startswith('actions float64[3, 2], subtask "step ')


def test_what_fails_is_told_once_with_its_cause_and_exit_code_1(serve):
    port = serve()["action"].quic.port
    flags = ("--port", port, "--mode", "subtask_only", "-n", 5)
    result = run("test", "quic", "127.0.0.1", *flags)
    assert result.exit_code == 1
    found = rows(result)
    assert found["calls"] == "0 of 0 answered", "what fails in the whole warm-up is not repeated"
    assert "bad_request: mode: subtask_only needs a planner" in found["failed"]
    assert found["failed"].endswith("(3 times)")


def test_an_answer_that_is_not_what_the_metadata_says_is_a_failure(serve_websocket):
    class Longer(FakePolicy):
        def infer(self, observation, controls=None):
            return dataclasses.replace(ACTIONS, extra={"note": "longer than it says"})

    port = serve_websocket(Longer()).port
    result = run("test", "ws", "127.0.0.1", "--port", port, "-n", 2, "--robot", "droid")
    assert result.exit_code == 1
    failed = rows(result)["failed"]
    assert failed.startswith("actions are [5, 2], the metadata's action_horizon is 3")


ACTIONS = ActionResult(actions=np.zeros((5, 2)), infer_ms=1.0)


def test_a_server_that_is_not_there_and_a_command_line_that_is_wrong():
    result = run("test", "quic", "127.0.0.1", "--port", 1, "--wait", "0.2")
    assert result.exit_code == 1
    assert rows(result)["failed"].startswith("Disconnected: cannot connect to 127.0.0.1:1")
    result = run("test", "quic", "127.0.0.1", "--port", 1, "--wait", "0.2", "--json")
    assert json.loads(result.stdout)["failures"][0].startswith("Disconnected: ")
    result = run("test", "quic", "ws://127.0.0.1:8000")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: host ")
    result = run("test", "quic", "0.0.0.0")
    assert result.exit_code == 2
    assert result.stderr.startswith('error: host "0.0.0.0" is what a server listens on')


# load


def test_load_prints_a_row_for_each_rate(serve):
    port = serve()["action"].quic.port
    flags = ("--clients", 3, "--rate", "5,10", "--seconds", 1)
    result = run("load", "127.0.0.1", "--port", port, *flags)
    assert result.exit_code == 0, result.output
    head, names, *table = result.output.splitlines()
    assert head == "null over QUIC, 3 clients, 1 s at each rate"
    assert names.split()[:3] == ["rate/Hz", "sent", "ok/s"]
    assert [row.split()[:2] for row in table[:2]] == [["5", "15"], ["10", "30"]]


def test_load_as_json_accounts_for_every_request(serve):
    endpoint = serve()["action"]
    flags = ("--clients", 2, "--rate", 20, "--seconds", 1, "--json")
    for way, port in (("quic", endpoint.quic.port), ("ws", endpoint.websocket.port)):
        result = run("load", "127.0.0.1", "--transport", way, "--port", port, *flags)
        assert result.exit_code == 0, result.output
        (row,) = json.loads(result.stdout)["rows"]
        assert row["sent"] == 40
        assert row["answered"] + row["superseded"] == 40


def test_requests_that_fail_under_load_are_named(serve):
    class Broken(Stateful):
        def infer(self, observation, controls=None):
            # the first call of each client goes well
            if len(self.seen) >= 1:
                raise RuntimeError("the model exploded")
            return super().infer(observation, controls)

    loaders = Loaders(policy=lambda settings: Broken(), planner=LOADERS.planner)
    port = serve(loaders)["action"].quic.port
    flags = ("--clients", 1, "--rate", 10, "--seconds", 1)
    result = run("load", "127.0.0.1", "--port", port, *flags)
    assert result.exit_code == 1
    assert "times: ServerError: internal: RuntimeError: the model exploded" in result.output


def test_a_plot_is_drawn(serve, tmp_path):
    pytest.importorskip("matplotlib")
    port = serve()["action"].quic.port
    flags = ("--clients", 1, "--rate", "10,20", "--seconds", "0.5", "--plot", tmp_path / "p.png")
    result = run("load", "127.0.0.1", "--port", port, *flags)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (("--rate", "fast"), "error: --rate fast: expected numbers above 0, at most 10000, as in"),
        (("--rate", "0"), "error: --rate 0: expected numbers above 0"),
        (("--plot", "/no/such/p.png"), "error: --plot /no/such/p.png: there is no directory"),
    ],
)
def test_a_load_that_cannot_be_made_is_refused_before_it_begins(flags, problem):
    result = run("load", "127.0.0.1", *flags)
    assert result.exit_code == 2
    assert result.stderr.startswith(problem)


def test_a_plot_without_matplotlib_says_what_to_install(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "matplotlib" else found(name)
    )
    result = run("load", "127.0.0.1", "--plot", "p.png")
    assert (result.exit_code, result.stderr) == (
        2,
        "error: --plot needs matplotlib: pip install matplotlib\n",
    )


# Ctrl-C

RATES = ",".join(["20"] * 60)
"""A minute, of which each second prints a row."""


@pytest.mark.parametrize(
    ("command", "started", "told"),
    [
        (("test", "quic", "127.0.0.1", "-n", "1000000"), "warm-up", "interrupted     after "),
        (("load", "127.0.0.1", "--rate", RATES, "--seconds", "1"), "   20 ", "interrupted: "),
    ],
)
def test_ctrl_c_ends_with_a_summary(serve, command, started, told):
    port = serve()["action"].quic.port
    program = subprocess.Popen(
        [sys.executable, "-m", "openpi_flash_server", *command, "--port", str(port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    with program:
        lines = []
        for line in program.stdout:
            lines.append(line)
            if started in line:
                break
        program.send_signal(signal.SIGINT)
        output, errors = program.communicate(timeout=60)
    assert program.returncode == 130, (lines, output, errors)
    assert told in output
    assert "Traceback" not in errors
