"""Alerts, the dashboard and the systemd unit name metrics, options and paths that exist."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from openpi_flash_server.config.server_config import ServerConfig
from openpi_flash_server.serving.service import DRAIN_GRACE

ROOT = Path(__file__).parents[1]
MONITORING = ROOT / "infra" / "monitoring"
UNIT = ROOT / "infra" / "systemd" / "openpi-flash.service"
RULES = [
    rule
    for group in yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
DASHBOARD = json.loads((MONITORING / "grafana.json").read_text())
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()


def documented():
    """The metrics of docs/operate.md, which a test holds equal to the server's, with labels."""
    page = (ROOT / "docs" / "operate.md").read_text()
    table = page.split("\n## Metrics\n")[1].split("\n## ")[0]
    metrics = {}
    for names, kind, labels in re.findall(r"^\| (`.*?) \| (\w+) \| (.*?) \|", table, re.M):
        for name in re.findall(r"`([^`]+)`", names):
            known = set(re.findall(r"`([^`]+)`", labels)) | {"slot", "instance", "job"}
            ends = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
            for end in ends:
                metrics[f"openpi_flash_{name}{end}"] = known | (
                    {"le"} if end == "_bucket" else set()
                )
    return metrics


METRICS = documented()


def expressions():
    for rule in RULES:
        yield rule["alert"], rule["expr"]
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


@pytest.mark.parametrize(("where", "expression"), expressions())
def test_an_expression_uses_metrics_and_labels_that_there_are(where, expression):
    used = re.findall(r"(openpi_flash_\w+)(?:\{([^}]*)\})?", expression)
    assert used or "up{" in expression
    for name, labels in used:
        assert name in METRICS, f"{where}: no metric {name}"
        asked = set(re.findall(r"(\w+)\s*(?:=~|!=|=)", labels))
        assert asked <= METRICS[name], f"{where}: {name} has no labels {asked - METRICS[name]}"
    grouped = set(re.findall(r"\w+", " ".join(re.findall(r"by \(([^)]*)\)", expression))))
    assert all(grouped <= METRICS[name] for name, _ in used)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_says_how_bad_it_is_and_the_runbook_what_to_do(rule):
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert set(rule["annotations"]) == {"summary", "description"}
    assert f"| `{rule['alert']}` |" in RUNBOOK


def test_the_runbook_names_no_other_alerts():
    named = set(re.findall(r"^\| `(OpenpiFlash\w+)` \|", RUNBOOK, re.M))
    assert named == {rule["alert"] for rule in RULES}


def test_every_panel_has_a_place_of_its_own_and_says_what_it_shows():
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        assert panel["description"].endswith(".")
        assert panel["datasource"]["uid"] == "${datasource}"
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    for one, other in itertools.combinations([panel["gridPos"] for panel in panels], 2):
        assert (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        )


@pytest.mark.parametrize(
    "check", [("check", "rules", "alerts.yml"), ("test", "rules", "alerts_test.yml")]
)
def test_promtool_takes_the_alerts_and_they_fire_when_they_should(check):
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed: apt-get install prometheus")
    *words, file = check
    result = subprocess.run(
        [promtool, *words, MONITORING / file], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr


# the unit


def settings(name):
    return re.findall(rf"^{name}=(.*)$", UNIT.read_text(), re.M)


def test_the_units_variables_are_ones_that_the_server_reads():
    own = {"HOME", "HF_HOME", "TORCHINDUCTOR_CACHE_DIR"}
    elsewhere = {"OPENPI_DATA_HOME", "OPENPI_FLASH_COMPILE_CACHE"}
    fields = {f"OPENPI_{name.upper()}" for name in ServerConfig.model_fields}
    named = {setting.partition("=")[0] for setting in settings("Environment")}
    assert named <= own | elsewhere | fields
    for setting in settings("Environment"):
        path = setting.partition("=")[2]
        if path.startswith("/"):
            assert path.startswith(("/var/lib/openpi-flash", "/var/cache/openpi-flash"))


def test_the_unit_leaves_time_to_answer_and_takes_every_right_away():
    assert int(settings("TimeoutStopSec")[0]) > DRAIN_GRACE + 2
    assert settings("RestartPreventExitStatus") == ["2"]
    assert settings("User") == ["openpi-flash"]
    for name, value in (
        ("NoNewPrivileges", "true"),
        ("CapabilityBoundingSet", ""),
        ("ProtectSystem", "strict"),
        ("ProtectHome", "true"),
        ("RestrictNamespaces", "true"),
    ):
        assert settings(name) == [value]
    # a model that compiles itself writes what it runs, and a GPU is a device
    assert not settings("MemoryDenyWriteExecute")
    assert not settings("PrivateDevices")


def test_systemd_takes_the_unit_and_calls_it_safe(tmp_path):
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    unit = tmp_path / UNIT.name
    program = settings("ExecStart")[0].split()[0]
    unit.write_text(UNIT.read_text().replace(program, "/bin/true"))
    result = subprocess.run([analyze, "verify", unit], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    command = [analyze, "security", "--offline=true", "--threshold=25", unit]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if "unrecognized option" in result.stderr:
        pytest.skip("this systemd judges running units only")
    assert result.returncode == 0, result.stdout
