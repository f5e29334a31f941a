"""Settings that an operator changes while the server runs."""

import logging

import numpy as np
import pytest
from admin_service import ACTION, PLANNER
from server_fakes import WAIT

from openpi_flash_server.admin.live_settings import LiveChange
from openpi_flash_server.config.fields import all_fields, is_live
from openpi_flash_server.config.live_prompts import LivePrompts, Prompts
from openpi_flash_server.logs import log_output

COMBINED = {"action": {**ACTION, "default_prompt": "fold"}, "planner": PLANNER}


@pytest.fixture
def combined(serve_admin):
    return serve_admin(**COMBINED)


@pytest.fixture(autouse=True)
def _levels_as_before():
    before = {name: logging.getLogger(name).level for name in ("", *log_output.OURS)}
    yield
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


def infer(server, slot="action", **message):
    with server.connect(slot) as client:
        return client.infer({"state": np.ones(2), **message}, timeout=WAIT)


def test_the_settings_in_force_are_told(combined):
    _, settings = combined.get("/config")
    version = settings.pop("prompt_version")
    assert settings.pop("log_level") in log_output.LEVELS
    assert settings == {
        "default_prompt": "fold",
        "generation_prompt_format": "Task: {task}. Subtask: ",
        "action_prompt_template": "{task}. Subtask: {subtask}",
        "max_wait_ms": 3.0,
    }
    assert infer(combined)["prompt_version"] == version


def test_a_change_holds_for_the_next_request_and_answers_name_its_version(combined):
    before = infer(combined)["prompt_version"]
    status, settings = combined.patch(
        default_prompt="sort",
        generation_prompt_format="Do {task}: ",
        action_prompt_template="{task} by {subtask}",
    )
    assert status == 200
    assert settings == combined.get("/config")[1]
    answer = infer(combined)
    assert answer["prompt_version"] == settings["prompt_version"] != before
    assert combined.planner.prompts[-1] == "sort"
    assert combined.planner.formats[-1] == "Do {task}: "
    assert combined.policy.seen[-1]["prompt"] == "sort by step 2 of sort"
    assert infer(combined, "planner")["prompt_version"] == settings["prompt_version"]
    assert infer(combined, mode="subtask_only")["prompt_version"] == settings["prompt_version"]
    assert infer(combined, mode="action_only")["prompt_version"] == settings["prompt_version"]
    assert combined.policy.seen[-1]["prompt"] == "sort"


def test_a_change_of_one_setting_leaves_the_others(combined):
    before = combined.get("/config")[1]
    _, after = combined.patch(default_prompt="sort")
    changed = {"default_prompt", "prompt_version"}
    assert {key for key in after if after[key] != before[key]} == changed
    assert combined.patch() == (200, after)


@pytest.mark.parametrize(
    ("change", "field", "message"),
    [
        ({"generation_prompt_format": None}, "generation_prompt_format", "valid string"),
        ({"action_prompt_template": None}, "action_prompt_template", "valid string"),
        ({"default_prompt": None}, "default_prompt", "valid string"),
        ({"default_prompt": "  "}, "default_prompt", "must name a task"),
        ({"generation_prompt_format": "no place"}, "generation_prompt_format", "lacks {task}"),
        ({"generation_prompt_format": "{task} {foo}"}, "generation_prompt_format", "{foo}"),
        ({"generation_prompt_format": "{task} {"}, "generation_prompt_format", "no template"),
        ({"action_prompt_template": "do {task}"}, "action_prompt_template", "lacks {subtask}"),
        ({"action_prompt_template": "{task!r} {subtask}"}, "action_prompt_template", "formats"),
        ({"defualt_prompt": "x"}, "defualt_prompt", "Extra inputs"),
        ({"log_level": "loud"}, "log_level", "'debug'"),
        ({"log_level": None}, "log_level", "'debug'"),
        ({"max_wait_ms": -1.0}, "max_wait_ms", "greater than or equal to 0"),
        ({"max_wait_ms": None}, "max_wait_ms", "valid number"),
        ({"prompt_version": "1"}, "prompt_version", "Extra inputs"),
    ],
)
def test_a_setting_that_cannot_be_used_changes_nothing(combined, change, field, message):
    before = combined.get("/config")[1]
    good = {key: value for key, value in before.items() if key == "default_prompt"} | {
        "log_level": "error"
    }
    status, answer = combined.patch(**{**good, **change})
    assert status == 422
    (problem,) = answer["detail"]
    assert problem["loc"] == ["body", field]
    assert message in problem["msg"]
    assert combined.get("/config")[1] == before


@pytest.mark.parametrize("body", ["null", "[]", '"x"', "{", "5"])
def test_a_body_that_is_no_object_is_refused(combined, body):
    before = combined.get("/config")[1]
    assert combined.ask("PATCH", "/config", text=body)[0] == 422
    assert combined.get("/config")[1] == before


def test_settings_of_a_slot_that_is_not_there_are_refused(serve_admin):
    server = serve_admin()
    assert set(server.get("/config")[1]) == {"log_level", "max_wait_ms", "prompt_version"}
    status, answer = server.patch(default_prompt="sort", generation_prompt_format="{task}:")
    assert status == 422
    assert answer["detail"][0]["msg"] == "this server has no planner slot"
    assert "default_prompt" not in server.get("/config")[1]


def test_a_planner_alone_has_no_template_of_the_action(serve_admin):
    server = serve_admin(action=None, planner=PLANNER)
    assert server.patch(action_prompt_template="{task} {subtask}")[0] == 422
    assert server.patch(max_wait_ms=1.0)[0] == 422
    status, _ = server.patch(generation_prompt_format="Do {task}: ", default_prompt="sort")
    assert status == 200
    assert infer(server, "planner")["subtask"]["text"] == "step 1 of sort"
    assert server.planner.formats == ["Do {task}: "]


def test_the_log_level_is_changed_for_the_whole_server(serve_admin):
    server = serve_admin()
    for level in ("debug", "error", "info"):
        assert server.patch(log_level=level)[1]["log_level"] == level
        assert logging.getLogger("openpi_flash_models").level == log_output.LEVELS[level]


def test_how_long_requests_wait_for_company_is_changed_in_the_slot(serve_admin):
    server = serve_admin()
    assert server.patch(max_wait_ms=12.5)[1]["max_wait_ms"] == 12.5
    assert server.service.endpoints["action"].slot.max_wait == 0.0125


def test_every_field_of_the_configuration_that_needs_no_restart_can_be_changed():
    live = {path[-1] for path, field in all_fields() if is_live(field)}
    assert set(LiveChange.model_fields) == live


def test_versions_of_prompts_are_equal_if_their_texts_are():
    one, other = LivePrompts(Prompts("fold")), LivePrompts(Prompts("sort"))
    assert one.version != other.version
    other.change(default_prompt="fold")
    assert one.version == other.version
    with pytest.raises(ValueError, match="lacks"):
        other.change(action_prompt_template="nothing")
    assert one.version == other.version
