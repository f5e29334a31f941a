"""docs/interfaces.md names every topic, service and action that the node offers, and no others."""

import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).resolve().parents[4] / "docs" / "interfaces.md").read_text()
SECTIONS = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
NO_TOPICS = {"prompt_topic", "<controller>/joint_trajectory"}
OF_RCLPY = ("parameter", "rosout", "_event", "change_state", "get_state", "type_description")
OF_RCLPY += ("available_", "transition_graph", "describe", "logger_level")


def named_in(section):
    """What stands in the first column of a section's table."""
    cells = re.findall(r"^\| (`.*?) \|", SECTIONS[section], re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)} - NO_TOPICS


def ours(names):
    return {
        name for name in names if "_action/" not in name and not any(w in name for w in OF_RCLPY)
    }


@pytest.fixture
def node(make_node):
    return make_node(dry_run=True)


def test_the_page_names_every_topic(node):
    topics = {publisher.topic_name for publisher in node.publishers}
    named = {node.resolve_topic_name(name) for name in named_in("Topics")}
    assert named == ours(topics) | {node.resolve_topic_name("prompt")}


def test_the_page_names_every_service_and_the_action(node):
    services = {node.resolve_service_name(service.srv_name) for service in node.services}
    named = {node.resolve_service_name(name) for name in named_in("Services")}
    assert named == ours(services)
    assert "Action `~/run_policy`" in SECTIONS
