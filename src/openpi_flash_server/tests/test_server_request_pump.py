"""request_pump.py: between a transport and a slot."""

import queue
import threading
import weakref

import numpy as np
from server_fakes import WAIT, open_with

from openpi_flash_server.slot.slot import Slot
from openpi_flash_server.transports.client_events import ClientNews
from openpi_flash_server.transports.request_pump import RequestPump


class Request:
    kind = "infer"
    size = 100
    session = peer = "10.0.0.1:5000#1"
    cancelled = False

    def __init__(self, answered):
        self.observation = {"state": np.zeros(2)}
        self._answered = answered

    def respond(self, result):
        del result
        self._answered.release()
        return 10

    def fail(self, code, message, traceback=""):
        raise AssertionError(f"{code}: {message}")


class Handler:
    def handle(self, work):
        return {"actions": work.observation["state"]}

    def reset(self, session):
        del session


class Source:
    def __init__(self):
        self.requests = queue.SimpleQueue()

    def next_request(self, timeout=None):
        del timeout
        return self.requests.get()

    def client_key(self, name):
        del name
        return 0


def test_a_request_is_gone_once_it_is_answered_even_if_no_other_comes():
    source, answered, gone = Source(), threading.Semaphore(0), threading.Semaphore(0)
    slot = Slot("action")
    open_with(slot, Handler())
    pump = RequestPump(slot, source, link="WebSocket", news=ClientNews([]))
    try:
        for _ in range(2):
            request = Request(answered)
            weakref.finalize(request, gone.release)
            source.requests.put(request)
            del request
            assert answered.acquire(timeout=WAIT)
            # its observation may have 64 MiB
            assert gone.acquire(timeout=WAIT)
    finally:
        source.requests.put(None)
        pump.join()
        slot.close(grace=WAIT)
