"""A client may pin the checkpoint that answers, and is told which configuration does."""

import numpy as np
import pytest
from admin_service import DIGEST, PLANNER
from server_configs import ARM_ACTION, NULL_ACTION, parse
from server_fakes import WAIT

from flash_transport import ServerError
from openpi_flash_server.config.digest import config_digest

OTHER = "sha256:" + "00" * 32
MODES = ("default", "action_only", "subtask_only")


def infer(server, **message):
    with server.connect() as client:
        return client.infer({"state": np.ones(2), "prompt": "wipe", **message}, timeout=WAIT)


@pytest.mark.parametrize("mode", MODES)
def test_the_checkpoint_that_was_pinned_answers(serve_admin, mode):
    server = serve_admin(planner=PLANNER)
    assert infer(server, mode=mode, expected_artifact=DIGEST)


@pytest.mark.parametrize("mode", MODES)
def test_another_checkpoint_refuses_before_anything_runs(serve_admin, mode):
    server = serve_admin(planner=PLANNER)
    expected = f"bad_request: expected_artifact: expected {OTHER}, but {DIGEST} answers"
    with pytest.raises(ServerError, match=expected):
        infer(server, mode=mode, expected_artifact=OTHER)
    assert (server.policy.seen, server.planner.prompts) == ([], [])


def test_a_planner_without_a_checkpoint_is_not_the_pinned_one(serve_admin):
    server = serve_admin(planner=PLANNER)
    with (
        server.connect("planner") as client,
        pytest.raises(ServerError, match="but a model without a checkpoint answers"),
    ):
        client.infer({"prompt": "wipe", "expected_artifact": DIGEST}, timeout=WAIT)


@pytest.mark.parametrize("pin", ["run/9", "sha256:a5", 5, DIGEST.upper(), ""])
def test_a_pin_that_is_no_digest_is_refused(serve_admin, pin):
    with pytest.raises(ServerError, match="bad_request: expected_artifact: expected the digest"):
        infer(serve_admin(), expected_artifact=pin)


def test_the_pin_is_no_part_of_the_observation(serve_admin):
    server = serve_admin()
    infer(server, expected_artifact=DIGEST)
    assert "expected_artifact" not in server.policy.seen[-1]


def test_equal_models_have_equal_digests_wherever_they_listen():
    here = parse({"action": ARM_ACTION, "api_keys": ["k3y"], "log_level": "error"})
    there = parse({"action": ARM_ACTION, "action_transport": {"websocket_port": 9000}})
    assert config_digest(here) == config_digest(there)
    assert config_digest(here).startswith("sha256:")
    other = {**ARM_ACTION, "default_prompt": "fold"}
    assert config_digest(parse({"action": other})) != config_digest(here)
    with_planner = parse({"action": NULL_ACTION, "planner": {"checkpoint_dir": "/models/p"}})
    assert config_digest(with_planner) != config_digest(parse({"action": NULL_ACTION}))
