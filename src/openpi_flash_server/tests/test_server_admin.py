"""The operator's port: health, state, metrics and images of a service that runs."""

import logging
import socket

import numpy as np
import pytest
from admin_service import ACTION, DIGEST, FRAME, PLANNER
from served_slot import wait_until
from server_fakes import WAIT

from flash_transport import ServerError, decode_image, jpeg_message
from openpi_flash_server import __version__
from openpi_flash_server.config.action_settings import ActionSettings
from openpi_flash_server.config.server_config import ServerConfig
from openpi_flash_server.serving.endpoint import StartError

READY_PATHS = ("/healthz", "/readyz", "/v2/health/ready", "/v2/models/action/ready")
SEEN = {"state": np.ones(2), "observation": {"image": FRAME}, "prompt": "wipe"}


def infer(server, message, session="arm"):
    with server.connect(session=session) as client:
        return client.infer(message, timeout=WAIT)


@pytest.mark.parametrize("path", READY_PATHS)
def test_a_server_that_loads_is_alive_and_not_ready(serve_admin, path):
    server = serve_admin(load=False)
    assert server.get(path)[0] == 503
    assert server.get("/livez") == (200, "OK\n")
    assert server.get("/v2/health/live") == (200, {"live": True})
    server.service.load()
    assert server.get(path)[0] == 200


def test_why_a_server_is_not_ready_is_told(serve_admin):
    server = serve_admin(load=False)
    assert server.get("/readyz") == (503, "action: starting\n")
    server.service.endpoints["action"].slot.stop_accepting()
    assert server.get("/readyz") == (503, "action: shutting down\n")


def test_a_trouble_that_only_a_restart_cures_is_no_longer_alive(serve_admin):
    server = serve_admin()
    server.service.endpoints["action"].slot.has_trouble("QUIC failed")
    assert server.get("/livez") == (503, "action: QUIC failed\n")
    assert server.get("/v2/health/live") == (503, {"live": False})
    assert server.get("/healthz")[0] == 503


def test_a_model_is_found_by_its_slot_and_by_its_config(serve_admin):
    server = serve_admin()
    for name in ("action", "pi05_two_joints"):
        status, model = server.get(f"/v2/models/{name}")
        assert status == 200
        assert (model["name"], model["slot"], model["versions"]) == (name, "action", [DIGEST])
        assert [output["name"] for output in model["outputs"]] == ["shoulder", "elbow"]
    status, problem = server.get("/v2/models/pi0")
    assert (status, problem) == (404, {"detail": "no such model, this server has: action"})


def test_the_state_tells_what_runs_and_clients_are_told_the_same(serve_admin):
    server = serve_admin()
    _, status = server.get("/status")
    assert (status["state"], status["mode"]) == ("ready", "action_only")
    assert status["versions"]["server"] == __version__
    slot = status["slots"]["action"]
    assert (slot["ready"], slot["reason"]) == (True, None)
    assert (slot["model"], slot["config"]) == ("pi05", "pi05_two_joints")
    assert slot["checkpoint"] == {"name": "my_run/9", "digest": DIGEST}
    with server.connect() as client:
        told = client.get_server_metadata()
    for key in ("config_digest", "versions"):
        assert told[key] == status[key]
    assert told["checkpoint"] == slot["checkpoint"]
    assert "expected_artifact" in told["supports"]


def test_the_state_tells_of_the_recording_and_of_the_shadow(serve_admin, tmp_path):
    server = serve_admin()
    _, status = server.get("/status")
    assert (status["recording"], status["shadow"]) == (None, None)
    directory = str(tmp_path / "records")
    server = serve_admin(recording={"directory": directory}, shadow={"default_prompt": "wipe"})
    infer(server, {"state": np.ones(2)})
    wait_until(lambda: server.get("/status")[1]["shadow"]["equal"] == 1)
    wait_until(lambda: server.get("/status")[1]["recording"]["written"] >= 2)
    _, status = server.get("/status")
    assert status["shadow"] == {
        "equal": 1,
        "different": 0,
        "failed": 0,
        "not_run": 0,
        "largest_difference": 0.0,
    }
    assert status["recording"]["directory"] == directory
    assert (status["recording"]["dropped"], status["recording"]["stopped_because"]) == (0, None)


def test_a_policy_that_was_replaced_is_told_as_what_answers(serve_admin):
    server = serve_admin()
    before = server.get("/status")[1]
    settings = ActionSettings(model_config_name="null", default_prompt="sort")
    server.service.swaps["action"].swap(settings, "beside")
    after = server.get("/status")[1]
    assert after["config_digest"] != before["config_digest"]
    with server.connect() as client:
        assert client.get_server_metadata()["config_digest"] == after["config_digest"]
    assert server.get("/config")[1]["default_prompt"] == "sort"
    assert infer(server, {"state": np.ones(2)})["prompt_version"] == after["prompt_version"]
    assert server.policy.seen[-1]["prompt"] == "sort"


def test_a_session_is_shown_with_its_link_and_its_images(serve_admin):
    server = serve_admin(policy=None, planner=PLANNER, action=ACTION)
    server.get("/status")
    with server.connect(session="kitchen") as client:
        client.infer(SEEN, timeout=WAIT)
        _, status = server.get("/status")
        (session,) = status["sessions"]
        assert (session["session"], session["link"], session["connected"]) == (
            "kitchen",
            "QUIC",
            True,
        )
        assert session["software"].startswith("flash_transport ")
        assert session["rtt_ms"] > 0
        assert 0 <= session["loss"] < 1
        assert (session["prompt"], session["subtask"]) == ("wipe", "step 1 of wipe")
        assert session["frames"] == ["observation/image"]
        path = f"/sessions/{session['id']}/frames/observation/image"
        code, headers, jpeg = server.ask("GET", path)
        assert (code, headers["content-type"]) == (200, "image/jpeg")
        shown = decode_image(jpeg)
        assert shown.shape == (4, 4, 3)
        assert np.abs(shown.astype(int) - FRAME).max() < 8
    assert server.get("/sessions/none/frames/x")[0] == 404
    assert server.get(path.replace("image", "other"))[0] == 404


def test_an_encoded_image_is_shown_in_the_size_that_the_model_gets(serve_admin):
    server = serve_admin()
    server.get("/status")
    wide = np.zeros((6, 12, 3), np.uint8)
    wide[:] = (200, 40, 40)
    with server.connect(session="arm") as client:
        image = {"observation": {"image": jpeg_message(wide)}}
        client.infer({"state": np.ones(2), **image}, timeout=WAIT)
        (session,) = server.get("/status")[1]["sessions"]
        _, _, jpeg = server.ask("GET", f"/sessions/{session['id']}/frames/{session['frames'][0]}")
    assert decode_image(jpeg).shape == (4, 4, 3)


def test_metrics_count_what_clients_send(serve_admin):
    server = serve_admin()
    infer(server, SEEN)
    with pytest.raises(ServerError, match="bad_request"):
        infer(server, {})
    status, text = server.get("/metrics")
    assert status == 200
    for line in (
        'openpi_flash_requests_total{slot="action"} 2.0',
        'openpi_flash_answers_total{slot="action"} 1.0',
        'openpi_flash_errors_total{code="bad_request",slot="action"} 1.0',
        'openpi_flash_stage_seconds_count{slot="action",stage="model"} 1.0',
        'openpi_flash_ready{slot="action"} 1.0',
    ):
        assert line in text.splitlines()
    assert f'digest="{DIGEST}"' in text


def test_the_interface_is_described_for_programs_and_for_people(serve_admin):
    server = serve_admin()
    _, document = server.get("/openapi.json")
    assert document["openapi"].startswith("3.")
    assert {"/config", "/status", "/metrics", "/healthz"} <= set(document["paths"])
    status, page = server.get("/docs")
    assert status == 200
    assert "PATCH /config" in page
    assert "<script" not in page


def test_pages_are_not_kept_and_load_nothing_from_elsewhere(serve_admin):
    server = serve_admin()
    for path in ("/", "/page.css", "/page.js", "/docs", "/status"):
        status, headers, body = server.ask("GET", path)
        assert status == 200
        assert headers["cache-control"] == "no-store"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert b"://" not in body.replace(b"http://127.0.0.1", b"")


def test_a_port_that_was_chosen_and_is_taken_ends_the_start(serve_admin):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StartError, match=f"admin.port: cannot listen on 127.0.0.1:{port}"):
            serve_admin(admin={"port": port})


def test_a_port_that_nobody_chose_and_is_taken_does_not_keep_robots_waiting(
    serve_admin, monkeypatch, caplog
):
    monkeypatch.setattr(ServerConfig, "is_default", lambda self, *path: path[0] == "admin")
    caplog.set_level(logging.WARNING)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = serve_admin(admin={"port": taken.getsockname()[1]})
    assert server.service.admin.port is None
    assert "no admin port" in caplog.text
    assert infer(server, SEEN)["actions"].shape == (3, 2)


def test_a_server_can_be_without_the_port(serve_admin):
    assert serve_admin(admin={"enabled": False}).service.admin.port is None
