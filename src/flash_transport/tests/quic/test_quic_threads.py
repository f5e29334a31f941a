"""Clients and servers of QUIC among threads, signals and forks, and how they are closed."""

import subprocess
import sys
import threading

import pytest
from quic_peers import LONG, Served, eventually, thread_results

from flash_transport import Disconnected, FlashTransportPolicy, QuicServer


def test_the_gil_is_free_while_a_client_and_a_server_wait():
    go = threading.Event()
    asked = threading.Event()

    def wait_for_python(request):
        asked.set()
        assert go.wait(LONG)
        request.respond({})

    with Served(wait_for_python) as served:
        policy = FlashTransportPolicy("127.0.0.1", served.port)
        with thread_results(lambda: policy.infer({}, timeout=LONG)) as results:
            assert asked.wait(LONG)
            # this thread counts while the other waits inside of infer
            assert sum(range(100_000)) == 4999950000
            go.set()
        assert results == [{}]
        policy.close()


def test_ctrl_c_ends_a_wait_and_cancels_the_request(press_ctrl_c):
    requests = []

    def interrupt(request):
        requests.append(request)
        press_ctrl_c()

    with Served(interrupt) as served, FlashTransportPolicy("127.0.0.1", served.port) as policy:
        with pytest.raises(KeyboardInterrupt):
            policy.infer({}, timeout=LONG)
        eventually(lambda: requests[0].cancelled)


def wait_after(start, wait):
    start()
    wait()


def test_ctrl_c_ends_the_wait_for_a_request(press_ctrl_c):
    with QuicServer("127.0.0.1", 0, metadata={}) as server:
        # most often in the wait, and before it on a busy machine: either way it comes through
        presses = threading.Timer(0.05, press_ctrl_c)
        with pytest.raises(KeyboardInterrupt):
            wait_after(presses.start, lambda: server.next_request(timeout=LONG))
        presses.join()


def test_a_closed_client_says_so():
    with Served() as served:
        policy = FlashTransportPolicy("127.0.0.1", served.port)
        assert repr(policy) == f"<FlashTransportPolicy 127.0.0.1:{served.port}>"
        policy.close()
        policy.close()
        assert repr(policy) == f"<FlashTransportPolicy 127.0.0.1:{served.port}, closed>"
        with pytest.raises(Disconnected, match="this client of 127.0.0.1:.* is closed"):
            policy.infer({}, timeout=LONG)


def test_closing_a_client_ends_the_waits_of_its_threads():
    asked = threading.Event()
    held = []

    def hold(request):
        held.append(request)
        asked.set()

    with Served(hold) as served:
        policy = FlashTransportPolicy("127.0.0.1", served.port)
        assert policy.get_server_metadata() == {}
        with thread_results(lambda: policy.infer({}), lambda: policy.infer({})) as results:
            eventually(lambda: len(held) == 2)
            policy.close()
        assert [type(result) for result in results] == [Disconnected] * 2
        eventually(lambda: all(request.cancelled for request in held))


def test_a_policy_that_is_dropped_ends_its_futures():
    held = []
    with Served(held.append) as served:
        future = FlashTransportPolicy("127.0.0.1", served.port).submit({})
        with pytest.raises(Disconnected, match="is closed"):
            future.result(LONG)


def test_a_callback_may_close_the_policy():
    with Served() as served:
        policy = FlashTransportPolicy("127.0.0.1", served.port)
        closed = threading.Event()
        future = policy.submit({}, timeout=LONG)
        future.add_done_callback(lambda _: (policy.close(), closed.set()))
        assert closed.wait(LONG)


def run_alone(program):
    """Runs a program in a fresh process, with the tested client; returns what it printed."""
    client = FlashTransportPolicy
    imports = f"from {client.__module__} import {client.__qualname__} as FlashTransportPolicy"
    run = subprocess.run(
        # Python 3.12 warns of a fork beside threads, which is what the test is about
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", f"{imports}\n{program}"],
        timeout=LONG,
        check=False,
        capture_output=True,
        text=True,
    )
    assert (run.returncode, run.stderr) == (0, "")
    return run.stdout


def test_a_forked_client_says_so_instead_of_waiting_for_ever():
    program = """
import os, sys
port = {port}
with FlashTransportPolicy("127.0.0.1", port, server_fingerprint="{fingerprint}") as policy:
    policy.submit({}).result(30)
    child = os.fork()
    if child == 0:
        try:
            assert ", of another process>" in repr(policy)
            for call in (policy.infer, policy.infer_with_stats, policy.submit):
                try:
                    call({})
                except RuntimeError as error:
                    assert "was made before a fork" in str(error)
                else:
                    raise AssertionError(call)
            policy.close()
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert policy.submit({"x": 1}).result(30)["echo"] == {"x": 1}
    assert policy.infer({"x": 1}, timeout=30)["echo"] == {"x": 1}
print("end")
"""
    with Served() as served:
        filled = program.replace("{port}", str(served.port))
        assert run_alone(filled.replace("{fingerprint}", served.server.fingerprint)) == "end\n"


def test_an_unclosed_client_and_server_do_not_keep_a_program_from_ending():
    program = """
import threading, time
from flash_transport import QuicServer
idle, busy = (QuicServer("127.0.0.1", 0, metadata={}) for _ in range(2))
policy = FlashTransportPolicy("127.0.0.1", busy.port, server_fingerprint=busy.fingerprint)
threading.Thread(target=idle.next_request, daemon=True).start()
threading.Thread(target=policy.infer, args=({},), daemon=True).start()
future = policy.submit({})
while busy.counters["requests_accepted"] < 2:
    time.sleep(0.001)
print("end")
"""
    assert run_alone(program) == "end\n"
