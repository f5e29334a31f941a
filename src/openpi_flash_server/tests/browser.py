"""A headless browser, driven over WebDriver (W3C) by the standard library alone."""

import base64
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request

from server_fakes import WAIT

DRIVER, CHROMIUM = shutil.which("chromedriver"), shutil.which("chromium")
IS_HERE = DRIVER is not None and CHROMIUM is not None


class Browser:
    """One window of Chromium; `directory` is its own."""

    def __init__(self, directory):
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        self._driver = subprocess.Popen(
            [DRIVER, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._url = f"http://127.0.0.1:{port}"
        self.until(self._is_up, "the driver does not start")
        arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--window-size=1100,900",
            f"--user-data-dir={directory}",
        ]
        options = {"binary": CHROMIUM, "args": arguments}
        wanted = {"alwaysMatch": {"goog:chromeOptions": options, "pageLoadStrategy": "eager"}}
        self._url += (
            "/session/" + self._ask("POST", "/session", {"capabilities": wanted})["sessionId"]
        )

    def open(self, url):
        self._ask("POST", "/url", {"url": url})

    def run(self, script):
        """What the script, a function's body, returns."""
        return self._ask("POST", "/execute/sync", {"script": script, "args": []})

    def text(self, selector):
        """The text of the first element, as a person sees it; empty if there is none."""
        return self.run(f"return document.querySelector({json.dumps(selector)})?.innerText ?? ''")

    def until(self, condition, why):
        """What the condition gives as soon as it is true; a page tells nobody when it changes."""
        end = time.monotonic() + 3 * WAIT
        while not (found := condition()):
            assert time.monotonic() < end, why
            time.sleep(0.05)
        return found

    def screenshot(self):
        """PNG."""
        return base64.b64decode(self._ask("GET", "/screenshot"))

    def close(self):
        try:
            self._ask("DELETE", "", None)
        finally:
            self._driver.terminate()
            self._driver.wait()

    def _is_up(self):
        try:
            return self._ask("GET", "/status")["ready"]
        except (urllib.error.URLError, ConnectionError):
            return False

    def _ask(self, method, path, body=None):
        request = urllib.request.Request(
            self._url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=3 * WAIT) as response:
            return json.load(response)["value"]
