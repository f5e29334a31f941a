"""config_docs.py: the page is what the configuration says."""

from pathlib import Path

from openpi_flash_server.config.docs import page
from openpi_flash_server.config.fields import all_fields, is_live

DOCS = Path(__file__).resolve().parents[3] / "docs" / "server_config.md"


def test_the_page_in_docs_is_the_generated_one():
    assert DOCS.read_text() == page(), (
        "run: python -m openpi_flash_server.config.docs > docs/server_config.md"
    )


def test_every_field_is_described():
    described = {".".join(path): field for path, field in all_fields()}
    assert {"host", "action.rtc.method", "planner_transport.quic_port"} <= described.keys()
    assert [path for path, field in described.items() if not field.description] == []


def test_fields_say_whether_a_change_needs_a_restart():
    live = {".".join(path) for path, field in all_fields() if is_live(field)}
    assert live == {
        "action.default_prompt",
        "action.max_wait_ms",
        "action.replicas",
        "planner.generation_prompt_format",
        "planner.action_prompt_template",
        "log_level",
    }
