"""What Prometheus reads of a slot's events."""

import dataclasses

import pytest
from event_makers import answered, dropped, failed, received, started
from prometheus_client.parser import text_string_to_metric_families
from server_fakes import CLIENT

from openpi_flash_server.admin.metrics import Metrics
from openpi_flash_server.recording.recorder import RecorderState
from openpi_flash_server.shadow.shadow import ShadowTotals
from openpi_flash_server.slot.answer import ErrorCode
from openpi_flash_server.slot.events import AnswerLost, GivenUp, SessionEnded
from openpi_flash_server.slot.life import Stage
from openpi_flash_server.slot.scheduler import DropReason
from openpi_flash_server.slot.session import PlanSession
from openpi_flash_server.transports.client_events import (
    AnswerSent,
    ClientConnected,
    ClientLeft,
    ClientRefused,
    MessageReceived,
)


class Scraped:
    """Metrics of a slot `action`, and the numbers on their page."""

    def __init__(self):
        self.metrics = Metrics({"server": "1.2.3"})
        self.slot = self.metrics.slot_listener("action")
        self.client = self.metrics.client_listener("action")

    def tell(self, *events):
        for event in events:
            self.slot(event)

    def __call__(self, name, **labels):
        wanted = {"slot": "action", **labels}
        wanted = {label: value for label, value in wanted.items() if value is not None}
        for family in text_string_to_metric_families(self.metrics.text().decode()):
            for sample in family.samples:
                if sample.name == f"openpi_flash_{name}" and sample.labels == wanted:
                    return sample.value
        return None


@pytest.fixture
def page():
    return Scraped()


def test_a_request_waits_then_runs_then_is_answered(page):
    page.tell(received(1), received(2, session="other"))
    assert (page("requests_waiting"), page("requests_running"), page("sessions")) == (2, 0, 0)
    page.tell(started(1, at=0.02))
    assert (page("requests_waiting"), page("requests_running"), page("sessions")) == (1, 1, 1)
    page.tell(answered(1, at=0.1))
    assert (page("requests_waiting"), page("requests_running")) == (1, 0)
    assert (page("requests_total"), page("answers_total")) == (2, 1)
    assert page("request_seconds_sum") == pytest.approx(0.1)
    page.tell(SessionEnded(1.0, "arm"))
    assert page("sessions") == 0


@pytest.mark.parametrize(
    ("stage", "seconds"),
    [
        ("queue", 0.004),
        ("decode", 0.002),
        ("preprocess", 0.001),
        ("model", 0.05),
        ("postprocess", 0.0005),
    ],
)
def test_each_stage_of_an_answer_is_measured(page, stage, seconds):
    page.tell(received(), started(1), answered())
    assert page("stage_seconds_sum", stage=stage) == pytest.approx(seconds)
    assert page("stage_seconds_count", stage=stage) == 1


def test_a_policy_that_does_not_measure_its_stages_has_none(page):
    page.tell(received(), started(1), answered(policy_timing={"infer_ms": 3.0}))
    assert page("stage_seconds_count", stage="model") == 1
    assert page("stage_seconds_count", stage="preprocess") == 0


def test_errors_are_counted_by_code_and_replaced_requests_apart(page):
    page.tell(received(1), failed(1), received(2), failed(2, code=ErrorCode.BAD_REQUEST))
    page.tell(received(3), dropped(3), received(4), dropped(4, reason=DropReason.CANCELLED))
    assert page("errors_total", code="internal") == 1
    assert page("errors_total", code="bad_request") == 1
    assert page("errors_total", code="superseded") == 2
    assert page("superseded_total") == 1
    assert page("answers_total") == 0


def test_a_deadline_is_missed_while_waiting_or_by_a_late_answer(page):
    page.tell(received(1, deadline_ms=50), dropped(1, reason=DropReason.DEADLINE_EXCEEDED))
    page.tell(received(2, deadline_ms=50), started(2), answered(2, at=0.2))
    page.tell(received(3, deadline_ms=500), started(3), answered(3, at=0.2))
    assert page("deadline_misses_total", when="waiting") == 1
    assert page("deadline_misses_total", when="answering") == 1


def test_the_age_of_subtasks_is_measured_unless_the_planner_failed(page):
    page.tell(received(1), answered(1, subtask={"text": "grasp", "ms": 9.0, "age_ms": 250.0}))
    page.tell(received(2), answered(2, subtask={"text": "", "age_ms": 0.0, "error": {}}))
    assert (page("subtask_age_seconds_count"), page("subtask_age_seconds_sum")) == (1, 0.25)


def test_batches_are_counted_by_their_size(page):
    page.tell(received(1), received(2), started(1, 2, size=5))
    assert (page("batch_size_count"), page("batch_size_sum")) == (1, 5)
    assert page("requests_running") == 2


def test_a_request_of_the_server_itself_counts_and_an_answer_may_be_lost(page):
    page.tell(received(1, session=PlanSession("arm", 0, is_awaited=True)), started(1))
    page.tell(answered(1, session=PlanSession("arm", 0, is_awaited=True)))
    page.tell(AnswerLost(0.2, 1, "arm", OSError("gone")))
    assert (page("answers_total"), page("answers_lost_total")) == (1, 1)


def test_clients_bytes_and_sending_are_told_by_link(page):
    for event in (
        ClientConnected("QUIC", CLIENT.name),
        ClientConnected("QUIC", "10.0.0.8:1#2"),
        ClientLeft("QUIC", CLIENT.name),
        ClientRefused("WebSocket", "10.0.0.7", "wrong API key", 3),
        MessageReceived("QUIC", 1000),
        AnswerSent("QUIC", 200, 1.5),
    ):
        page.client(event)
    assert page("clients", link="QUIC") == 1
    assert page("clients_refused_total", link="WebSocket") == 3
    assert page("received_bytes_total", link="QUIC") == 1000
    assert page("sent_bytes_total", link="QUIC") == 200
    assert page("stage_seconds_sum", stage="send") == pytest.approx(0.0015)


class Watched:
    """A slot as the metrics read it."""

    unhealthy_because = "starting"
    stage = Stage.STARTING
    replicas = None

    def __init__(self, counted=None):
        self.counted = counted or {}

    def counters(self):
        return {"quic": self.counted}


def test_what_transports_count_and_what_answers_is_read_at_the_scrape(page):
    slots = {name: Watched({"datagrams_received": 1}) for name in ("action", "planner")}
    for name, slot in slots.items():
        page.metrics.watch_slot(name, slot)
    page.metrics.describe_model(
        "action",
        {"model": "pi05", "robot": "droid", "checkpoint": {"name": "run/9", "digest": "sha256:a"}},
    )
    for slot in slots.values():
        slot.counted["datagrams_received"] = 7
    counted = {"link": "quic", "counter": "datagrams_received"}
    assert page("transport_events_total", **counted) == 7
    assert page("transport_events_total", **counted, slot="planner") == 7
    assert page("ready") == 0
    slots["action"].unhealthy_because = None
    assert page("ready") == 1
    labels = {"model": "pi05", "config": "", "robot": "droid"}
    assert page("model_info", **labels, checkpoint="run/9", digest="sha256:a") == 1
    assert b'openpi_flash_build_info{server="1.2.3"} 1.0' in page.metrics.text()


def test_a_slot_is_in_one_stage_at_a_time(page):
    slot = Watched()
    page.metrics.watch_slot("action", slot)
    for now in Stage:
        slot.stage = now
        values = {stage: page("slot_stage", stage=str(stage)) for stage in Stage}
        assert values == {stage: float(stage is now) for stage in Stage}


def test_calls_that_hang_are_counted(page):
    assert page("hung_calls_total") == 0
    for number in (1, 2):
        page.tell(received(number), started(number), GivenUp(9.0, (number,), "too long"))
        page.tell(failed(number))
    assert page("hung_calls_total") == 2
    assert page("errors_total", code="internal") == 2


def test_nothing_is_told_of_a_recorder_and_a_shadow_that_are_not_there(page):
    text = page.metrics.text()
    assert b"record" not in text
    assert b"shadow" not in text


def test_lost_records_and_a_recording_that_stopped_are_told(page):
    state = RecorderState(written=5, dropped=2, black_boxes=1, black_boxes_failed=3)
    page.metrics.watch_recorder(lambda: state)
    assert page("records_written_total", slot=None) == 5
    assert page("records_dropped_total", slot=None) == 2
    assert page("recording_stopped", slot=None) == 0
    assert page("black_boxes_total", slot=None, outcome="written") == 1
    assert page("black_boxes_total", slot=None, outcome="failed") == 3
    state = dataclasses.replace(state, stopped_because="the disk is full")
    assert page("recording_stopped", slot=None) == 1


def test_what_came_of_the_copies_for_a_shadow_is_told(page):
    outcomes = {"equal": 1, "different": 8, "failed": 2, "not_run": 4}
    page.metrics.watch_shadow("action", lambda: ShadowTotals(outcomes, 0.25))
    for outcome, count in outcomes.items():
        assert page("shadow_copies_total", outcome=outcome) == count
    assert page("shadow_largest_difference") == 0.25


def test_the_series_of_a_slot_that_is_gone_are_removed(page):
    other = page.metrics.slot_listener("planner")
    page.metrics.watch_slot("action", Watched())
    page.metrics.describe_model("action", {})
    page.tell(received(1), started(1), answered(1), received(2), failed(2))
    other(received(1))
    page.metrics.forget_slot("action")
    assert b'slot="action"' not in page.metrics.text()
    assert page("requests_total", slot="planner") == 1
    # its name may come again
    page.slot = page.metrics.slot_listener("action")
    page.tell(received(1))
    assert page("requests_total") == 1
