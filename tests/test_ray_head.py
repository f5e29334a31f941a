"""The head of infra/kubernetes/ray: its command, run with a real Ray, and a worker that joins it.

`scripts/test-ray` installs Ray and runs this; without Ray it is skipped.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import pytest
import yaml

pytest.importorskip("ray", reason="Ray is not installed: scripts/test-ray installs and tests it")

MANIFEST = Path(__file__).parent.parent / "infra/kubernetes/ray/ray_cluster.yaml"
START = 240.0
"""s for Ray and the server to come up on a busy machine."""

PROGRAMS = {"ray": "ray.scripts.scripts", "openpi-flash": "openpi_flash_server"}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def place():
    """A folder with the programs that an image has; whatever names it in its command is ended."""
    # Ray's sockets have long names
    folder = Path(tempfile.mkdtemp(prefix="head-", dir="/tmp"))
    (folder / "bin").mkdir()
    for name, module in PROGRAMS.items():
        program = folder / "bin" / name
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m {module} "$@"\n')
        program.chmod(0o755)
    yield folder
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if str(folder).encode() in entry.read_bytes():
                os.kill(int(entry.parent.name), signal.SIGKILL)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.timeout(600)
def test_the_head_serves_once_a_worker_has_a_gpu_for_its_replica(place):
    cluster = yaml.safe_load(MANIFEST.read_text())["spec"]
    (server,) = cluster["headGroupSpec"]["template"]["spec"]["containers"]
    ports = {name: free_port() for name in ("ray", "websocket", "quic", "admin")}
    address = f"127.0.0.1:{ports['ray']}"
    config = {
        "host": "127.0.0.1",
        "state_dir": str(place / "state"),
        "action": {"model_config_name": "null"},
        "action_transport": {"websocket_port": ports["websocket"], "quic_port": ports["quic"]},
        "admin": {"port": ports["admin"]},
    }
    (place / "config.json").write_text(json.dumps(config))
    of_pod = {one["name"]: one["value"] for one in server["env"] if "value" in one}
    environment = {
        **os.environ,
        **of_pod,
        "INFERENCE_CONFIG_PATH": str(place / "config.json"),
        "OPENPI_ACTION__REPLICAS": "1",
        "OPENPI_ACTION__RAY__ADDRESS": address,
        "RAY_TMPDIR": str(place),
        # as KubeRay sets them in every pod
        "RAY_AUTH_MODE": cluster["authOptions"]["mode"],
        "RAY_AUTH_TOKEN": "of-a-test-" * 4,
        "PATH": f"{place / 'bin'}:{os.environ['PATH']}",
    }
    # of this machine's shared memory no more than a test needs
    arguments = server["args"][0].replace("--port 6379", f"--port {ports['ray']}")
    arguments = arguments.replace("536870912", "80000000")
    assert server["command"][2:] == ["/bin/sh", "-c"]
    with subprocess.Popen(["/bin/sh", "-c", arguments], env=environment) as process:
        try:
            wait_for(process, ports["admin"], "/livez")
            # no GPU yet, so no replica: the head itself must not take its place
            assert answer(ports["admin"], "/readyz") != 200
            joining = f"ray start --address {address} --num-gpus 1 --object-store-memory 80000000"
            subprocess.run(["/bin/sh", "-c", joining], env=environment, check=True)
            wait_for(process, ports["admin"], "/readyz")
        finally:
            # what the pod's end sends; the server is the process that the shell has become
            process.terminate()
            assert process.wait(60) == 0


def answer(port, path):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as response:
            return response.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


def wait_for(process, port, path):
    deadline = time.monotonic() + START
    while answer(port, path) != 200:
        assert process.poll() is None, "the head has ended"
        assert time.monotonic() < deadline, f"{path} does not answer"
        time.sleep(0.2)
