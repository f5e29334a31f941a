"""diagnostics.py: what /diagnostics says."""

from diagnostic_msgs.msg import DiagnosticStatus

from openpi_flash_robot.bridge.bridge import Bridge
from openpi_flash_robot.bridge.diagnostics import Level, reports
from openpi_flash_robot.bridge.effects import Warn
from openpi_flash_robot.link.events import LinkDown, LinkUp, TransportUsed

SECOND = 1_000_000_000
METADATA = {"action_rate_hz": 25.0, "action_dim": 3}


def by_name(bridge, settings, now=SECOND):
    return {report.name: report for report in reports(bridge, settings, now)}


def test_levels_have_the_numbers_of_the_message():
    assert {level.name: bytes([level]) for level in Level} == {
        name: getattr(DiagnosticStatus, name) for name in ("OK", "WARN", "ERROR", "STALE")
    }


def test_a_bridge_that_connects_warns_and_a_lost_link_is_an_error(settings):
    bridge = Bridge(settings)
    bridge.command_topics(0, [])
    assert by_name(bridge, settings)["connection"].level is Level.WARN
    bridge.link_event(0, LinkUp(METADATA))
    report = by_name(bridge, settings)["connection"]
    assert (report.level, report.message) == (Level.OK, "connected")
    assert report.values["server"] == "127.0.0.1:5555"
    bridge.link_event(0, LinkDown("gone"))
    report = by_name(bridge, settings)["connection"]
    assert (report.level, report.message) == (Level.ERROR, "gone")


def test_the_transport_in_use_and_its_reason_are_told(settings):
    bridge = Bridge(settings)
    bridge.command_topics(0, [])
    assert by_name(bridge, settings)["connection"].values["transport"] == settings.link.transport
    bridge.link_event(0, TransportUsed("quic", "it answered first", is_change=False))
    bridge.link_event(0, LinkUp(METADATA))
    assert not [effect for effect in bridge.take_effects() if isinstance(effect, Warn)]
    bridge.link_event(0, TransportUsed("websocket", "over QUIC silence", is_change=True))
    warnings = [effect for effect in bridge.take_effects() if isinstance(effect, Warn)]
    assert warnings == [Warn("requests go over websocket: over QUIC silence")]
    values = by_name(bridge, settings)["connection"].values
    assert values["transport"] == bridge.status(0).transport == "websocket"
    assert values["why this transport"] == "over QUIC silence"


def test_a_server_for_another_robot_is_an_error(settings):
    bridge = Bridge(settings)
    bridge.command_topics(0, [])
    bridge.link_event(0, LinkUp(METADATA | {"action_dim": 7}))
    for name in ("connection", "execution"):
        report = by_name(bridge, settings)[name]
        assert report.level is Level.ERROR
        assert "7 columns" in report.message


def test_every_camera_has_its_age_and_a_missing_one_is_a_warning(settings):
    bridge = Bridge(settings)
    bridge.command_topics(0, [])
    bridge.link_event(0, LinkUp(METADATA))
    bridge.activate(0)
    bridge.add_frame("scene", SECOND // 2, "picture")
    bridge.tick(SECOND)
    report = by_name(bridge, settings)["observation"]
    assert report.level is Level.WARN
    assert "no image received yet from camera wrist (/wrist/image_raw)" in report.message
    assert report.values == {"age of scene (s)": "0.500", "age of wrist (s)": "no image yet"}


def test_execution_says_state_and_counts(settings):
    bridge = Bridge(settings)
    bridge.command_topics(0, [])
    bridge.link_event(0, LinkUp(METADATA))
    report = by_name(bridge, settings)["execution"]
    assert report.level is Level.OK
    assert report.values["state"] == "PAUSED"
    assert report.values["dry_run"] == "false"
    bridge.activate(0)
    assert by_name(bridge, settings)["execution"].level is Level.WARN


def test_a_planner_that_fails_is_a_warning_in_its_own_words(settings, monkeypatch):
    bridge = Bridge(settings)
    bridge.command_topics(0, [])
    report = by_name(bridge, settings)["planner"]
    assert (report.level, report.message) == (Level.OK, "")
    monkeypatch.setattr(Bridge, "planner_error", "internal: out of memory")
    report = by_name(bridge, settings)["planner"]
    assert (report.level, report.message) == (Level.WARN, "internal: out of memory")
