"""A service with an operator's port, and how tests ask that port."""

import dataclasses
import http.client
import json

import numpy as np
from server_fakes import SPEC, WAIT, FakePlanner, FakePolicy

from flash_transport import FlashTransportPolicy
from openpi_flash_models.checkpoints.digest import CheckpointIdentity
from openpi_flash_server.config.file import parse_config
from openpi_flash_server.serving.loading import Loaders
from openpi_flash_server.serving.service import Service

DIGEST = "sha256:" + "a5" * 32
KEY = "operators-key"
FREE_PORTS = {"websocket_port": 0, "quic_port": 0}
ACTION = {"model_config_name": "null"}
PLANNER = {"checkpoint_dir": "/models/planner"}
FRAME = np.full((4, 4, 3), (200, 40, 40), np.uint8)


class CheckpointPolicy(FakePolicy):
    """A fake that was loaded from a checkpoint."""

    spec = dataclasses.replace(
        SPEC, config="pi05_two_joints", checkpoint=CheckpointIdentity("my_run/9", DIGEST)
    )


class AdminService:
    """A service of fakes with an operator's port."""

    def __init__(self, directory, *, admin=None, load=True, policy=None, **values):
        self.policy, self.planner = policy or CheckpointPolicy(), FakePlanner()
        config = {
            "host": "127.0.0.1",
            "state_dir": str(directory),
            "action": ACTION,
            "action_transport": FREE_PORTS,
            "planner_transport": FREE_PORTS,
            "admin": {"port": 0, **(admin or {})},
            **values,
        }
        self.service = Service(
            parse_config(json.dumps(config), {}, source="test"),
            Loaders(lambda _: self.policy, lambda *_: self.planner),
        )
        if load:
            self.service.load()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.service.admin.port.port}/"

    def ask(self, method, path, body=None, *, text=None, key=None, **headers):
        """Status, headers and body; sends `body` as JSON, or `text` as it is."""
        port = self.service.admin.port.port
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT)
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        try:
            connection.request(
                method,
                path,
                text if body is None else json.dumps(body),
                {"Content-Type": "application/json", **headers},
            )
            response = connection.getresponse()
            return response.status, dict(response.getheaders()), response.read()
        finally:
            connection.close()

    def get(self, path, **options):
        """Status and body, parsed if it is JSON."""
        status, headers, body = self.ask("GET", path, **options)
        is_json = headers.get("content-type", "").startswith("application/json")
        return status, json.loads(body) if is_json else body.decode()

    def patch(self, **settings):
        status, _, body = self.ask("PATCH", "/config", settings)
        return status, json.loads(body)

    def connect(self, slot="action", **options):
        quic = self.service.endpoints[slot].quic
        return FlashTransportPolicy(
            "127.0.0.1", quic.port, server_fingerprint=quic.fingerprint, **options
        )

    def close(self):
        return self.service.close(grace=WAIT)
