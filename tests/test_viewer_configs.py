"""Layouts and recordings in config/ and on the page name topics, fields and services that exist."""

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
DEFINITIONS = ROOT / "src/openpi_flash_msgs"
FOXGLOVE = json.loads((ROOT / "config/foxglove/openpi_flash.json").read_text())
PLOTJUGGLER = ET.parse(ROOT / "config/plotjuggler/openpi_flash.xml").getroot()
RERUN = yaml.safe_load((ROOT / "config/rerun/openpi_flash.yaml").read_text())
TEMPLATE = yaml.safe_load((ROOT / "config/robots/template.yaml").read_text())
PARAMETERS = TEMPLATE["/**"]["ros__parameters"]
INTERFACES = (ROOT / "docs/interfaces.md").read_text()
PAGE = (ROOT / "docs/visualisation.md").read_text()

TOPICS = {
    "/openpi/action_chunk": "ActionChunk",
    "/openpi/status": "PolicyStatus",
    "/openpi/stats": "InferenceStats",
    "/openpi/subtask": "Subtask",
}
"""Those with messages of our own."""

OTHER_FIELDS = {
    "/openpi/preview/joint_trajectory": {"joint_names", "points"},
    "/joint_states": {"name", "position", "velocity", "effort"},
}
OTHER_TOPICS = {*OTHER_FIELDS, "/diagnostics", "/robot_description", "/tf", "/tf_static"}
NODE = "/openpi/client_node/"
REQUESTS = {
    "pause": {"data": bool},
    "hold": {},
    "reset": {},
    "dump": {},
    "cancel": {},
    "start": {"prompt": str, "reset": bool},
}


def lines_of(definition):
    text = (DEFINITIONS / definition).read_text()
    return [line.partition("#")[0].split() for line in text.splitlines() if line.partition("#")[0]]


def fields_of(message):
    return {
        line[1] for line in lines_of(f"msg/{message}.msg") if len(line) == 2 and "=" not in line[1]
    }


def states():
    named = [line[1].split("=") for line in lines_of("msg/PolicyStatus.msg") if "=" in line[1]]
    return {number: name for name, number in named if not name.startswith("CAUSE_")}


def assert_exists(path):
    """Whether a message path, /topic.field, names a topic and a field of it."""
    topic, _, field = path.partition(".")
    field = re.split(r"[.\[]", field)[0]
    known = fields_of(TOPICS[topic]) if topic in TOPICS else OTHER_FIELDS[topic]
    assert field in known, path


def panels(kind):
    return {
        name: panel for name, panel in FOXGLOVE["configById"].items() if name.startswith(f"{kind}!")
    }


def leaves(layout):
    if isinstance(layout, str):
        return [layout]
    assert layout["direction"] in ("row", "column")
    assert 0 < layout["splitPercentage"] < 100
    return leaves(layout["first"]) + leaves(layout["second"])


def cameras():
    return {camera["topic"] for camera in PARAMETERS["camera"].values()}


@pytest.mark.parametrize(("topic", "message"), TOPICS.items())
def test_the_topics_are_those_of_the_page_of_interfaces(topic, message):
    rows = [line for line in INTERFACES.splitlines() if line.startswith("| `")]
    name = topic.removeprefix("/openpi/")
    assert any(f"`{name}`" in row.split("|")[1] and f"`{message}`" in row for row in rows)


def test_foxglove_shows_every_panel_once():
    assert sorted(leaves(FOXGLOVE["layout"])) == sorted(FOXGLOVE["configById"])


def test_foxglove_plots_fields_that_exist():
    shown = panels("Plot") | panels("StateTransitions")
    assert len(shown) >= 5
    for panel in shown.values():
        for line in panel["paths"]:
            assert_exists(line["value"])


def test_foxglove_reads_texts_that_exist():
    for panel in panels("RawMessages").values():
        assert_exists(panel["topicPath"])
    assert "/openpi/subtask.text" in {p["topicPath"] for p in panels("RawMessages").values()}


def test_foxglove_names_every_state_as_the_message_does():
    (panel,) = panels("Indicator").values()
    assert panel["path"] == "/openpi/status.state"
    assert {rule["rawValue"]: rule["label"] for rule in panel["rules"]} == states()


def test_foxglove_calls_services_that_exist_with_their_fields():
    buttons = panels("CallService")
    assert {"hold", "pause", "reset", "dump"} <= {
        button["serviceName"].removeprefix(NODE) for button in buttons.values()
    }
    for button in buttons.values():
        assert button["serviceName"].startswith(NODE)
        expected = REQUESTS[button["serviceName"].removeprefix(NODE)]
        request = json.loads(button["requestPayload"])
        assert {name: type(value) for name, value in request.items()} == expected
    assert set(REQUESTS["start"]) == {
        line[1] for line in lines_of("srv/SetPrompt.srv")[:2] if len(line) == 2
    }


@pytest.mark.parametrize("service", sorted(REQUESTS))
def test_the_services_are_those_of_the_robots_page(service):
    assert f"`~/{service}`" in (ROOT / "docs/robot.md").read_text() + INTERFACES


def test_foxglove_and_rerun_show_the_cameras_of_the_template():
    assert {panel["imageMode"]["imageTopic"] for panel in panels("Image").values()} == cameras()
    assert {module["topic"] for module in RERUN["modules"]} == cameras()
    assert {module["name"] for module in RERUN["modules"]} == set(PARAMETERS["cameras"])
    assert {module["module"] for module in RERUN["modules"]} == {"image"}


def test_plotjuggler_plots_numbers_that_exist():
    curves = [curve.get("name") for curve in PLOTJUGGLER.iter("curve")]
    assert len(curves) == len(set(curves)) >= 15
    for curve in curves:
        topic, _, field = curve.rpartition("/")
        assert_exists(f"{topic}.{field}")
    selected = {topic.get("name") for topic in PLOTJUGGLER.iter("topic")}
    assert selected == {curve.rpartition("/")[0] for curve in curves}


def test_plotjugglers_splitters_hold_what_they_count():
    for splitter in PLOTJUGGLER.iter("DockSplitter"):
        assert int(splitter.get("count")) == len(splitter) == len(splitter.get("sizes").split(";"))


def test_the_page_records_topics_that_exist():
    (line,) = re.findall(r"^ros2 bag record ((?:.*\\\n)*.*)", PAGE, re.MULTILINE)
    recorded = set(re.findall(r"(/[\w/]+)", line))
    assert recorded - OTHER_TOPICS - cameras() <= {*TOPICS, "/openpi/subtask_text"}
    assert {*TOPICS, "/joint_states"} | cameras() <= recorded


def test_the_page_names_files_that_are_installed():
    named = set(re.findall(r"config/[\w./]+\w", PAGE))
    for path in named:
        assert (ROOT / path).exists(), path
    rules = (ROOT / "src/openpi_flash/CMakeLists.txt").read_text()
    assert '"${root}/config"' in rules
