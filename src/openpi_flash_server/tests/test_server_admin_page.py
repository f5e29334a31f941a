"""The operator's page in a real browser."""

import numpy as np
import pytest
from admin_service import FRAME, KEY, PLANNER
from browser import IS_HERE, Browser
from server_fakes import WAIT

pytestmark = pytest.mark.skipif(
    not IS_HERE, reason="needs Debian's packages chromium and chromium-driver"
)
MARKUP = "<img src=x onerror=alert(1)>"
SEEN = {"state": np.ones(2), "observation": {"image": FRAME}}


@pytest.fixture
def browser(tmp_path):
    browser = Browser(tmp_path / "browser")
    yield browser
    browser.close()


def image_width(browser):
    return browser.run("return document.querySelector('.frames img')?.naturalWidth ?? 0")


@pytest.mark.timeout(300)
def test_an_operator_sees_state_sessions_images_and_words(serve_admin, browser):
    server = serve_admin(planner=PLANNER)
    browser.open(server.url)
    browser.until(lambda: browser.text("#state") == "ready", "the page does not get the state")
    assert "action" in browser.text("#slots")
    assert "pi05_two_joints" in browser.text("#slots")
    assert browser.text("#no-sessions") == "No session has sent a request."
    with server.connect(session=MARKUP) as client:
        for _ in range(3):
            client.infer({**SEEN, "prompt": "wipe"}, timeout=WAIT)
        card = "#sessions .session"
        browser.until(lambda: image_width(browser) == 4, "the camera image does not come")
        browser.until(lambda: "3 answered" in browser.text(card), "the answers are not counted")
        shown = browser.text(card)
        assert MARKUP in shown, "a client's text is text"
        assert "action · connected" in shown
        assert "wipe → step 3 of wipe" in shown
        assert "QUIC" in shown
        assert browser.run(f"return document.querySelectorAll('{card}').length") == 1
        points = browser.run(
            f"return document.querySelector('{card} polyline').getAttribute('points')"
        )
        assert len(points.split()) == 3
    browser.until(lambda: browser.text("#no-sessions") != "", "the session does not end")


@pytest.mark.timeout(300)
def test_an_operator_is_asked_for_the_key_once(serve_admin, browser):
    server = serve_admin(admin={"api_key": KEY})

    def enter(key):
        browser.run(
            f"document.querySelector('#key').value = '{key}';"
            "document.querySelector('#key-form').requestSubmit()"
        )

    browser.open(server.url)
    browser.until(lambda: browser.text("#state") == "a key is needed", "no key is asked for")
    enter("wrong")
    problem = "the server does not know this key"
    browser.until(lambda: browser.text("#key-problem") == problem, "a wrong key is not told")
    enter(KEY)
    browser.until(lambda: browser.text("#state") == "ready", "the key is not taken")
    browser.open(server.url)
    browser.until(lambda: browser.text("#state") == "ready", "the key is asked for again")


@pytest.mark.timeout(300)
def test_a_server_that_is_gone_is_told(serve_admin, browser):
    server = serve_admin()
    browser.open(server.url)
    browser.until(lambda: browser.text("#state") == "ready", "the page does not get the state")
    server.service.admin.close()
    told = "no answer from the server"
    browser.until(lambda: browser.text("#state") == told, "the page shows an old state")


@pytest.mark.timeout(300)
def test_a_recording_that_stopped_and_the_shadows_comparisons_are_told(
    serve_admin, browser, tmp_path
):
    recording = {"directory": str(tmp_path / "records")}
    server = serve_admin(recording=recording, shadow={"default_prompt": "wipe"})
    browser.open(server.url)
    told = f"recording: 0 records in {tmp_path / 'records'}, 0 lost"
    browser.until(lambda: browser.text("#recording") == told, "the recording is not told")
    assert browser.text("#shadow").startswith("shadow: 0 equal · 0 different")
    with server.connect() as client:
        client.infer({"state": np.ones(2)}, timeout=WAIT)
        browser.until(lambda: "1 equal" in browser.text("#shadow"), "the copy is not counted")
    server.service.watch.recorder._stop(OSError("no space left"))
    stopped = "RECORDING STOPPED: no space left"
    browser.until(lambda: browser.text("#recording").startswith(stopped), "the stop is not told")
