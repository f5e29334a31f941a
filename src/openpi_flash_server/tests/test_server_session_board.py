"""What an operator sees of sessions, in virtual time."""

import numpy as np
import pytest
from event_makers import answered, dropped, failed, received, started
from server_fakes import CLIENT

from openpi_flash_server.admin.latency_history import LatencyHistory
from openpi_flash_server.admin.session_board import (
    MOST_SESSIONS,
    MOST_WATCHED,
    WATCHED_FOR,
    SessionBoard,
)
from openpi_flash_server.slot.client import Client
from openpi_flash_server.slot.events import SessionEnded
from openpi_flash_server.slot.session import PlanSession
from openpi_flash_server.transports.client_events import ClientConnected, ClientLeft

SEEN = {"image": np.zeros((2, 2, 3), np.uint8), "prompt": "wipe the table"}


class Board:
    """A board of one slot, whose time a test sets."""

    def __init__(self, **options):
        self.now = 0.0
        self.board = SessionBoard(**{"keeps_frames": True, **options}, clock=lambda: self.now)
        self._tell = self.board.slot_listener("action")

    def tell(self, *events):
        for event in events:
            self._tell(event)

    def one(self):
        (view,) = self.board.look()
        return view


@pytest.fixture
def board():
    return Board()


def test_a_session_is_shown_with_its_client_its_words_and_its_outcomes(board):
    board.board.client_event(ClientConnected("QUIC", CLIENT.name, "arm", "robot 1.2"))
    board.tell(received(1, observation=SEEN), started(1), answered(1, subtask={"text": "grasp"}))
    board.tell(received(2, at=1.0, observation=SEEN), dropped(2, at=1.0))
    board.tell(received(3, at=2.0, observation=SEEN), failed(3, at=2.1))
    board.now = 5.0
    view = board.one()
    assert (view.slot, view.session, view.client) == ("action", "arm", CLIENT.name)
    assert (view.link, view.software, view.connected) == ("QUIC", "robot 1.2", True)
    assert (view.prompt, view.subtask) == ("wipe the table", "grasp")
    assert (view.received, view.answered, view.superseded, view.errors) == (3, 1, 1, 1)
    assert view.last_error == "internal: it broke"
    assert view.idle_s == 3.0
    assert view.latency_ms == [100.0]
    board.board.client_event(ClientLeft("QUIC", CLIENT.name))
    assert (board.one().connected, board.one().link) == (False, "")


def test_a_session_leaves_the_board_when_it_ends(board):
    board.tell(received(1), answered(1), SessionEnded(1.0, "arm"))
    assert board.board.look() == []


def test_a_session_that_was_only_refused_leaves_the_board_with_its_client(board):
    for number, session in ((1, "refused"), (2, "answered")):
        board.tell(received(number, session=session))
    board.tell(failed(1, session="refused"), answered(2, session="answered"))
    board.board.client_event(ClientLeft("QUIC", CLIENT.name))
    assert [view.session for view in board.board.look()] == ["answered"]


def test_requests_of_the_server_itself_are_no_session_but_count_for_their_slot(board):
    session = PlanSession("arm", 0, is_awaited=True)
    board.tell(received(1, session=session), answered(1, session=session))
    assert board.board.look() == []
    assert board.board.latencies("action")["latency_ms"] == [100.0]
    assert board.board.latencies("planner")["latency_p50_ms"] is None


def test_a_client_cannot_move_an_operators_cursor(board):
    board.tell(received(1, observation={"prompt": "a\x1b[2Jb"}))
    board.tell(answered(1, subtask={"text": "c\nd"}))
    assert (board.one().prompt, board.one().subtask) == ("a\\x1b[2Jb", "c\\nd")


def test_observations_are_kept_only_while_somebody_looks(board):
    board.tell(received(1, at=0.0, observation=SEEN))
    id_ = board.one().id
    assert board.board.observation(id_) is None, "nobody had looked"
    board.tell(received(2, at=0.1, observation=SEEN))
    assert board.board.observation(id_) is SEEN
    board.tell(received(3, at=WATCHED_FOR + 1, observation=SEEN))
    assert board.board.observation(id_) is None, "nobody looks any more"


def test_an_operator_can_keep_all_observations_off_the_board():
    board = Board(keeps_frames=False)
    board.tell(received(1, observation=SEEN))
    id_ = board.one().id
    board.tell(received(2, at=0.1, observation=SEEN))
    assert board.board.observation(id_) is None


def test_only_the_last_active_sessions_keep_their_observation(board):
    board.board.look()
    for number in range(MOST_WATCHED + 1):
        board.tell(received(number, session=f"arm {number}", observation=SEEN))
    kept = [board.board.observation(view.id) is SEEN for view in board.board.look()]
    assert kept == [False, *[True] * MOST_WATCHED]


def test_a_client_that_names_a_new_session_in_each_request_does_not_fill_the_board(board):
    for number in range(MOST_SESSIONS + 50):
        board.tell(received(number, session=f"arm {number}"))
    assert len(board.board.look()) == MOST_SESSIONS


def test_a_session_shows_the_connection_that_it_came_over_last(board):
    board.tell(received(1), received(2, client=Client("10.0.0.9:2#2", "10.0.0.9")))
    assert board.one().client == "10.0.0.9:2#2"


def test_the_rate_is_that_of_the_last_ten_seconds():
    history = LatencyHistory()
    for number in range(100):
        history.add(number / 10, 5.0)
    assert history.rate_hz(10.0) == pytest.approx(9.9)
    assert history.rate_hz(15.0) == pytest.approx(4.9)
    assert history.rate_hz(100.0) == 0.0


def test_a_rate_above_what_is_kept_is_not_cut():
    history = LatencyHistory(kept=50)
    for number in range(500):
        history.add(number / 100, 5.0)
    assert history.rate_hz(5.0) == pytest.approx(100.0)


def test_percentiles_are_latencies_that_were_measured():
    history = LatencyHistory()
    assert history.percentile(0.5) is None
    for ms in (3.0, 1.0, 2.0, 90.0):
        history.add(0.0, ms)
    assert (history.percentile(0.5), history.percentile(0.99)) == (2.0, 90.0)
