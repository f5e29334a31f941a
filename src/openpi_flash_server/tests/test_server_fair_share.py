"""Who may be next, so that everybody who waits gets the same."""

from openpi_flash_server.slot.fair_share import FairShare

A1, A2, B1 = ("a", "a:1", "x"), ("a", "a:2", "y"), ("b", "b:1", "z")


def serve(shares, waiting, times):
    """Serves the first eligible path again and again; returns who was served."""
    served = []
    for _ in range(times):
        draft = shares.draft()
        eligible = draft.eligible(waiting)
        chosen = next(path for path in waiting if path in eligible)
        draft.charge(chosen, 1.0)
        draft.commit()
        served.append(chosen)
    return served


def test_two_computers_get_the_same_however_many_sessions_one_has():
    shares = FairShare()
    for path in (A1, A2, B1):
        shares.begins(path, [])
    served = serve(shares, [A1, A2, B1], 100)
    assert abs(served.count(B1) - 50) <= 2
    assert abs(served.count(A1) - 25) <= 2


def test_nobody_saves_up_turns_while_it_wants_none():
    shares = FairShare()
    shares.begins(A1, [])
    serve(shares, [A1], 50)
    shares.begins(B1, [A1])
    served = serve(shares, [A1, B1], 10)
    assert abs(served.count(B1) - 5) <= 2


def test_a_new_session_of_a_computer_that_waits_does_not_cost_that_its_turn():
    shares = FairShare()
    for path in (A1, B1):
        shares.begins(path, [])
    serve(shares, [A1], 1)
    serve(shares, [A1], 1)
    shares.begins(("b", "b:2", "new"), [A1, B1])
    assert shares.draft().eligible([A1, B1]) == {B1}


def test_a_draft_that_is_not_committed_changes_nothing():
    shares = FairShare()
    for path in (A1, B1):
        shares.begins(path, [])
    draft = shares.draft()
    draft.charge(A1, 100.0)
    assert draft.eligible([A1, B1]) == {B1}
    assert shares.draft().eligible([A1, B1]) == {A1, B1}


def test_whoever_waits_alone_is_always_eligible():
    shares = FairShare()
    shares.begins(A1, [])
    serve(shares, [A1], 1000)
    assert shares.draft().eligible([A1]) == {A1}
    assert shares.draft().eligible([]) == set()
