"""A server process with replicas on Ray: what its end does to accepted requests.

`scripts/test-ray` installs Ray and runs this; without Ray it is skipped.
"""

import os
import signal
import threading

import numpy as np
import pytest
from served_slot import wait_until
from server_process import Process

pytest.importorskip("ray", reason="Ray is not installed: scripts/test-ray installs and tests it")

from flash_transport import FlashTransportPolicy

HERE = os.path.dirname(__file__)  # noqa: PTH120


@pytest.mark.timeout(600)
def test_a_server_answers_images_and_after_sigterm_what_it_has_accepted(tmp_path, monkeypatch):
    """Ray would end with the thread that loads, and abort the process 3 s after SIGTERM."""
    monkeypatch.setenv("PYTHONPATH", HERE, prepend=os.pathsep)
    config = {
        "host": "127.0.0.1",
        "action": {
            "model_config_name": "python:ray_policies:Sleeper",
            "engine": "ray",
            "replicas": 1,
        },
        "action_transport": {"websocket_port": 0, "quic_port": 0},
    }
    server = Process(tmp_path, config)
    try:
        server.wait_for("Service ready", seconds=300)
        _, port = server.ports()
        with FlashTransportPolicy("127.0.0.1", port) as policy:
            answers = []
            started = tmp_path / "started"
            # an image goes by the object store, which is a process of Ray's
            image = np.full((300, 300, 3), 2, np.uint8)
            assert policy.infer({"image": image})["sum"] == 180_000
            request = {"seconds": 5.0, "value": 7.0, "started": str(started)}

            def ask():
                answers.append(policy.infer(request, timeout=60))

            asking = threading.Thread(target=ask)
            asking.start()
            wait_until(started.exists)
            server.popen.send_signal(signal.SIGTERM)
            code, _ = server.end()
            asking.join(60)
        assert [answer["actions"][0, 0] for answer in answers] == [7.0]
        assert code == 0
    finally:
        server.kill()
