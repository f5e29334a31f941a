"""SIGTERM ends a server with code 0 whatever it is doing, and one that cannot load with code 1."""

import concurrent.futures
import http.client
import json
import re
import signal
import sys

import pytest
from server_fakes import WAIT

PROGRAM = """
import os
import sys
import time
from openpi_flash_server.serving import loading, service
from openpi_flash_server.handlers.null_policy import NullPolicy
from openpi_flash_server.cli import app

held, loads = sys.argv.pop(1), []


def hold(stage):
    if stage == held:
        # in one piece: the log writes to the same pipe
        os.write(1, f"held in {stage}{os.linesep}".encode())
        while not sys.stdin.readline():  # whoever waits for the end closes stdin
            time.sleep(60)


class Policy(NullPolicy):
    def warm_up(self):
        hold("warming")
        hold("compiling")


def policy(settings):
    loads.append(settings.checkpoint_dir)
    hold("loading" if len(loads) == 1 else "reloading")
    if settings.checkpoint_dir == "/broken":
        raise loading.StartError("action.checkpoint_dir: /broken: params/ is missing")
    return Policy()


load_ = service.Service.load


def load(self):
    hold("starting")
    load_(self)


service.Service.load = load
held_loaders = loading.Loaders(policy, loading.load_planner, lambda settings: hold("downloading"))
service.Service.__init__.__defaults__ = (held_loaders,)
app(prog_name="openpi-flash")
"""

FREE = {"websocket_port": 0, "quic_port": 0}


@pytest.fixture
def start_held(start, tmp_path):
    """`start_held(stage)` starts a server that stops in a stage until it gets a line."""
    (tmp_path / "held.py").write_text(PROGRAM)

    def start_(stage, checkpoint="", config="null"):
        return start(
            {
                "host": "127.0.0.1",
                "action": {"model_config_name": config, "checkpoint_dir": checkpoint},
                "action_transport": FREE,
                "admin": {"port": 0},
            },
            program=[sys.executable, str(tmp_path / "held.py"), stage],
        )

    return start_


def reload(process, **body):
    line = next(line for line in process.lines if "admin page" in line)
    port = int(re.search(r":(\d+)/", line)[1])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT)
    try:
        headers = {"Content-Type": "application/json"}
        connection.request("POST", "/slots/action/reload", json.dumps(body), headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("stage", "checkpoint", "config"),
    [
        ("starting", "", "null"),
        ("downloading", "https://127.0.0.1:1/checkpoint", "null"),
        ("loading", "", "null"),
        ("warming", "", "null"),
        # a model of ours compiles
        ("compiling", "/models/pi05", "pi05_libero"),
    ],
)
def test_sigterm_ends_a_start_in_each_stage(start_held, stage, checkpoint, config):
    process = start_held(stage, checkpoint, config)
    process.wait_for(f"held in {stage}")
    told = f"stage={stage}"  # by another thread than the one that is held
    if stage != "starting" and not any(told in line for line in process.lines):
        process.wait_for(told)
    process.popen.send_signal(signal.SIGTERM)
    assert process.end() == (0, "")
    assert not any("Service ready" in line for line in process.lines)


def test_sigterm_ends_a_server_that_is_ready(start_held):
    process = start_held("never")
    process.wait_for("Service ready")
    process.popen.send_signal(signal.SIGTERM)
    assert process.end() == (0, "")


def test_sigterm_ends_a_reload(start_held):
    process = start_held("reloading")
    process.wait_for("Service ready")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        answer = pool.submit(reload, process)
        process.wait_for("held in reloading")
        process.popen.send_signal(signal.SIGTERM)
        assert process.end() == (0, "")
        # the request to reload ends with the server, with or without an answer
        assert answer.exception(WAIT) is not None or answer.result()[0] == 409


def test_a_slot_that_cannot_be_loaded_ends_the_process_with_one_line(start_held):
    process = start_held("never", "/broken")
    code, error = process.end()
    assert code == 1
    assert error == "error: action.checkpoint_dir: /broken: params/ is missing\n"


def test_a_checkpoint_that_cannot_be_loaded_later_ends_nothing(start_held):
    process = start_held("never")
    process.wait_for("Service ready")
    status, answer = reload(process, checkpoint_dir="/broken")
    assert status == 409
    assert answer["detail"].endswith("params/ is missing; the former checkpoint serves")
    process.popen.send_signal(signal.SIGTERM)
    assert process.end() == (0, "")
