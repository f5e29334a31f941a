"""infra/caddy/Caddyfile with a real Caddy: clients speak through it, encrypted."""

import os
import shutil
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from openpi_client.websocket_client_policy import WebsocketClientPolicy
from served_slot import WebsocketServer
from server_fakes import WAIT, FakePolicy

from flash_transport import AuthenticationFailed, WebsocketPolicy

CADDYFILE = Path(__file__).parent.parent / "infra/caddy/Caddyfile"
START = 100.0
"""s for Caddy to make an authority and a certificate, on a busy machine."""
pytestmark = pytest.mark.skipif(shutil.which("caddy") is None, reason="caddy is not installed")


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class Caddy:
    """Caddy before two ports, with a certificate of its own authority for `localhost`."""

    def __init__(self, folder, action, planner):
        self.port = free_port()
        self.authority = folder / "data/caddy/pki/authorities/local/root.crt"
        environment = os.environ | {
            "HOME": str(folder),
            "XDG_CONFIG_HOME": str(folder / "config"),
            "XDG_DATA_HOME": str(folder / "data"),
            "OPENPI_FLASH_DOMAIN": f"localhost:{self.port}",
            "OPENPI_FLASH_HTTP_PORT": str(free_port()),
            "OPENPI_FLASH_ACTION": f"127.0.0.1:{action}",
            "OPENPI_FLASH_PLANNER": f"127.0.0.1:{planner}",
        }
        self.log = (folder / "caddy.log").open("w")
        self.process = subprocess.Popen(
            ["caddy", "run", "--config", CADDYFILE, "--adapter", "caddyfile"],
            env=environment,
            stderr=self.log,
        )

    def get(self, path):
        context = ssl.create_default_context(cafile=self.authority)
        url = f"https://localhost:{self.port}{path}"
        with urllib.request.urlopen(url, context=context, timeout=WAIT) as answer:
            return answer.status

    def wait_until_it_serves(self):
        deadline = time.monotonic() + START
        while True:
            try:
                self.get("/healthz")
                return
            except (OSError, urllib.error.URLError):
                assert self.process.poll() is None, Path(self.log.name).read_text()
                assert time.monotonic() < deadline, Path(self.log.name).read_text()
                time.sleep(0.1)

    def close(self):
        # it would first wait for its connections
        self.process.kill()
        self.process.wait()
        self.log.close()


@pytest.fixture(scope="module")
def servers():
    action = WebsocketServer(FakePolicy(), api_keys=["robot-1"])
    planner = WebsocketServer(FakePolicy())
    yield action, planner
    action.close()
    planner.close()


@pytest.fixture(scope="module")
def running(tmp_path_factory, servers):
    action, planner = servers
    caddy = Caddy(tmp_path_factory.mktemp("caddy"), action.port, planner.port)
    try:
        caddy.wait_until_it_serves()
        yield caddy
    finally:
        caddy.close()


@pytest.fixture
def caddy(running, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(running.authority))
    return running


@pytest.mark.filterwarnings("ignore:connect:DeprecationWarning")
def test_both_clients_are_answered_through_it(caddy):
    uri = f"wss://localhost:{caddy.port}"
    observation = {"state": np.array([1.5, 2.0])}
    theirs = WebsocketClientPolicy(uri, port=None, api_key="robot-1")
    assert theirs.infer(observation)["actions"].tolist() == [[1.5, 2.0]] * 3
    with WebsocketPolicy(uri, api_key="robot-1") as ours:
        assert ours.infer(observation, timeout=WAIT)["actions"].tolist() == [[1.5, 2.0]] * 3


def test_a_wrong_key_is_refused_through_it(caddy):
    with pytest.raises(AuthenticationFailed):
        WebsocketPolicy(f"wss://localhost:{caddy.port}", api_key="robot-2", connect_timeout=WAIT)


def test_a_path_leads_to_the_planner(caddy, servers):
    observation = {"state": np.array([3.0, 4.0])}
    seen = [len(server.policy.seen) for server in servers]
    with WebsocketPolicy(f"wss://localhost:{caddy.port}/planner") as planner:
        planner.infer(observation, timeout=WAIT)
    assert [len(server.policy.seen) for server in servers] == [seen[0], seen[1] + 1]


def test_health_is_seen_through_it(caddy):
    assert caddy.get("/healthz") == 200
    assert caddy.get("/planner/healthz") == 200


def test_the_file_is_formatted():
    printed = subprocess.run(
        ["caddy", "fmt", CADDYFILE], check=False, capture_output=True, text=True
    )
    assert printed.stdout == CADDYFILE.read_text()
