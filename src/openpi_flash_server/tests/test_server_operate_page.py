"""docs/operate.md names every metric, path and live setting, and no others."""

import re
from pathlib import Path

from event_makers import answered, dropped, failed, received, started
from prometheus_client.parser import text_string_to_metric_families

from openpi_flash_server.admin.live_settings import LiveChange

PAGE = (Path(__file__).parents[3] / "docs/operate.md").read_text()


def section(title):
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def named(title):
    """The names in the first column of a section's table."""
    rows = re.findall(r"^\| (`.*?) \|", section(title), re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row)}


def test_every_metric_is_on_the_page(serve_admin, tmp_path):
    recording = {"directory": str(tmp_path / "records")}
    server = serve_admin(recording=recording, shadow={"default_prompt": "wipe"})
    tell = server.service.admin._metrics.slot_listener("action")
    for event in (received(1), started(1), answered(1, subtask={"age_ms": 1.0}), received(2)):
        tell(event)
    for event in (failed(2), received(3), dropped(3)):
        tell(event)
    _, text = server.get("/metrics")
    families = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in text_string_to_metric_families(text)
    }
    ours = {name.removeprefix("openpi_flash_") for name in families if "openpi_flash" in name}
    assert ours == named("Metrics")


def test_every_path_is_on_the_page(serve_admin):
    _, document = serve_admin().get("/openapi.json")
    paths = {name.split()[-1] for name in named("Paths")}
    assert set(document["paths"]) - {"/sessions/{session}/frames/{name}"} == paths - {
        "/",
        "/docs",
        "/openapi.json",
        "name",
    }


def test_every_live_setting_is_on_the_page():
    assert named("Change settings without a restart") == set(LiveChange.model_fields)
