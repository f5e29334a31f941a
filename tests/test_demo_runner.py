"""The demo as a process: it names what fails, and leaves nothing running, however it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from demo.arguments import parse_arguments
from demo.runner import ROBOT_CONFIG, SEED
from demo.served_policy import trained, untrained
from demo.server_setup import checkpoint_path, free_ports, keep_checkpoint, server_config
from sim_robot.episode import order_of_prompt
from sim_robot.ros_domain import reserved_ros_domain

EXAMPLES = Path(__file__).parent.parent / "examples"

# Stands in for `openpi-flash`: says that it is healthy, but has no model.
HEALTHY = """#!{python} -S
import http.server, json, signal, sys, threading, time
if sys.argv[1] == "make-demo-checkpoint":
    import pathlib
    pathlib.Path(sys.argv[2]).mkdir()
    sys.exit(0)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
config = json.load(open(sys.argv[3]))
class Ok(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response({status}); self.end_headers()
    def log_message(self, *_): pass
for slot in ("action", "planner"):
    port = config[slot + "_transport"]["websocket_port"]
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Ok)
    threading.Thread(target=server.serve_forever, daemon=True).start()
print("stand-in is up", flush=True)
{then}
"""


def stand_in(folder, *, status=200, then="time.sleep(600)", program=HEALTHY):
    """Put an `openpi-flash` into a folder of its own; return an environment that finds it."""
    binaries = folder / "bin"
    binaries.mkdir()
    path = binaries / "openpi-flash"
    path.write_text(program.format(python=sys.executable, status=status, then=then))
    path.chmod(0o755)
    return {
        **os.environ,
        "PATH": f"{binaries}:{os.environ['PATH']}",
        "PYTHONPATH": f"{EXAMPLES}:{os.environ.get('PYTHONPATH', '')}",
    }


def start_demo(folder, environ, *arguments):
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "demo", "--untrained", "--headless", "--seconds", "2"),
            *("--output", str(folder / "out"), "--cache", str(folder / "cache")),
            *arguments,
        ],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def left_behind(folder):
    """Return the command lines of processes that mention a folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                environ = (entry / "environ").read_bytes().decode(errors="replace")
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
            if str(folder) in command or str(folder) in environ:
                found.append(command)
    return found


def wait_for(holds, what, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds} s"
        time.sleep(0.05)


def says(path, text):
    return path.exists() and text in path.read_text()


def test_a_checkpoint_that_cannot_be_made_is_reported_with_its_reason(tmp_path):
    program = "#!{python} -S\nimport sys\nsys.exit('error: no space left on device')\n"
    demo = start_demo(tmp_path, stand_in(tmp_path, program=program))
    output, _ = demo.communicate(timeout=60)
    assert demo.returncode == 1
    assert "error: checkpoint ended with exit code 1; the end of " in output
    assert "  | error: no space left on device" in output
    assert left_behind(tmp_path) == []


def test_random_weights_play_no_episodes_that_could_be_recorded(tmp_path):
    demo = start_demo(tmp_path, stand_in(tmp_path), "--record", str(tmp_path / "episodes"))
    output, _ = demo.communicate(timeout=60)
    assert demo.returncode == 1
    assert "error: --record records episodes, of which there are none" in output
    assert left_behind(tmp_path) == []
    assert not (tmp_path / "episodes").exists()


def test_a_server_that_dies_at_start_is_named_with_its_last_words(tmp_path):
    then = "sys.exit('error: action_transport.quic_port: 5555 is in use')"
    demo = start_demo(tmp_path, stand_in(tmp_path, status=503, then=then))
    output, _ = demo.communicate(timeout=60)
    assert demo.returncode == 1
    assert "error: server ended with exit code 1; the end of " in output
    assert "  | error: action_transport.quic_port: 5555 is in use" in output
    assert f"hint: the logs of all processes are in {tmp_path}/out" in output
    assert left_behind(tmp_path) == []


def test_a_server_that_dies_later_takes_the_simulated_robot_with_it(tmp_path):
    gate = tmp_path / "gate"
    then = f"import os\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.05)\nsys.exit(7)"
    demo = start_demo(tmp_path, stand_in(tmp_path, then=then))
    try:
        wait_for((tmp_path / "out" / "robot.log").exists, "the robot's start")
        gate.touch()
        output, _ = demo.communicate(timeout=60)
    finally:
        demo.kill()
    assert demo.returncode == 1
    assert "error: server ended with exit code 7; the end of " in output
    assert "  | stand-in is up" in output
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize(
    ("how", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_interrupted_it_stops_everything_and_says_where_the_logs_are(tmp_path, how, code):
    demo = start_demo(tmp_path, stand_in(tmp_path, status=503))
    try:
        wait_for(lambda: says(tmp_path / "out" / "server.log", "stand-in is up"), "the server")
        demo.send_signal(how)
        output, _ = demo.communicate(timeout=60)
    finally:
        demo.kill()
    assert demo.returncode == code
    assert f"interrupted: everything is stopped; the logs are in {tmp_path}/out" in output
    assert "Traceback" not in output
    assert left_behind(tmp_path) == []


def test_killed_it_leaves_nothing_running(tmp_path):
    demo = start_demo(tmp_path, stand_in(tmp_path))
    try:
        wait_for(lambda: says(tmp_path / "out" / "robot.log", "ready"), "the robot")
        assert any("sim_robot" in command for command in left_behind(tmp_path))
    finally:
        demo.kill()
    demo.communicate()
    wait_for(lambda: left_behind(tmp_path) == [], "the end of all processes")


@pytest.mark.parametrize(
    "arguments", [["--seconds", "1"], ["--transport", "carrier-pigeon"], ["--second-guess"]]
)
def test_a_wrong_argument_is_named_and_nothing_starts(tmp_path, arguments):
    demo = start_demo(tmp_path, stand_in(tmp_path), *arguments)
    output, _ = demo.communicate(timeout=60)
    assert demo.returncode == 2
    assert arguments[0] in output
    assert not (tmp_path / "out").exists()


def test_two_runs_never_share_a_ros_domain():
    with reserved_ros_domain() as one, reserved_ros_domain() as other:
        assert one != other
        assert {one, other} <= set(range(1, 102))


def test_a_domain_in_which_somebody_speaks_is_left_alone(monkeypatch):
    monkeypatch.setattr("sim_robot.ros_domain.LAST_DOMAIN", 2)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as speaker:
        speaker.bind(("", 7400 + 250 * 1 + 10))
        with reserved_ros_domain() as domain:
            assert domain == 2
            with pytest.raises(RuntimeError, match="all ROS domains from 1 to 2 are in use"):
                reserved_ros_domain().__enter__()


def test_the_server_is_told_its_checkpoints_and_ports_and_stays_on_this_machine(tmp_path):
    ports = free_ports()
    assert len({ports.action_websocket, ports.planner_websocket}) == 2
    assert len({ports.action_quic, ports.planner_quic}) == 2
    policy = untrained(tmp_path, ROBOT_CONFIG)
    config = server_config(policy, ports, tmp_path / "state", "tidy up")
    assert config["host"] == "127.0.0.1"
    assert config["action"]["checkpoint_dir"] == str(tmp_path / "action")
    assert config["planner"]["checkpoint_dir"] == str(tmp_path / "planner")
    assert config["action_transport"]["quic_port"] == ports.action("quic")
    assert config["action_transport"]["websocket_port"] == ports.action("websocket")


def test_the_servers_own_loader_takes_the_config(tmp_path):
    from openpi_flash_server.config.file import parse_config

    policy = untrained(tmp_path, ROBOT_CONFIG)
    config = server_config(policy, free_ports(), tmp_path / "state", "tidy up")
    parsed = parse_config(json.dumps(config), {}, source="demo")
    assert parsed.mode == "combined"
    assert not policy.is_trained


def test_weights_that_were_trained_are_served_in_place_of_random_ones(tmp_path, monkeypatch):
    from openpi_flash_server.config.file import parse_config

    monkeypatch.setattr("sim_robot.shipped_policy.FOLDER", tmp_path)
    assert trained(None) is None
    action = tmp_path / "weights"
    (action / "params").mkdir(parents=True)
    policy = trained(None)
    assert policy.is_trained
    assert (policy.action, policy.planner) == (action, None)
    config = server_config(policy, free_ports(), tmp_path / "state", "touch the red cube")
    assert parse_config(json.dumps(config), {}, source="demo").mode == "action_only"
    # one that has learnt subtasks is its own planner, whose words its actions do not follow
    (action / "assets").mkdir()
    (action / "assets/training.json").write_text('{"data": {"subtask": "label.stages"}}')
    policy = trained(None)
    assert policy.planner == action
    config = server_config(policy, free_ports(), tmp_path / "state", "touch the red cube")
    parsed = parse_config(json.dumps(config), {}, source="demo")
    assert (parsed.mode, parsed.planner.action_prompt_template) == ("combined", "{task}")
    # the user's own come first
    assert trained(tmp_path / "mine").action == tmp_path / "mine"


def test_episodes_have_starts_that_their_player_numbers(tmp_path):
    order = order_of_prompt(parse_arguments([]).prompt, SEED, 0)
    assert (order.task, order.cube) == ("touch", "red_cube")
    with pytest.raises(SystemExit):
        parse_arguments(["--weights", str(tmp_path)])
    (tmp_path / "params").mkdir()
    assert parse_arguments(["--weights", str(tmp_path)]).weights == tmp_path


def test_the_checkpoint_is_kept_under_a_name_that_changes_with_the_models(tmp_path):
    path = checkpoint_path(tmp_path)
    assert path == checkpoint_path(tmp_path)
    assert path.parent == tmp_path


def test_a_finished_checkpoint_replaces_those_of_other_versions(tmp_path):
    old, unfinished = tmp_path / "checkpoint-old", tmp_path / "checkpoint-new.1.unfinished"
    for folder in (old, unfinished):
        folder.mkdir()
        (folder / "weights").touch()
    keep_checkpoint(unfinished, tmp_path / "checkpoint-new")
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-new"]
