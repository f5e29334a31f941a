"""Hostile requests cost the server, and other clients, no more than honest ones of a megabyte do.

Attack and honest load alternate at the same pace, so that a busy machine slows down both.
scripts/test-hostile runs more rounds, and also judges the bystander's latency, which says little in
a few calls on a machine that is busy with other tests.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hostile.attacks import ATTACKS, STATE
from server_process import Process

from flash_transport import FlashTransportPolicy

ROUNDS = int(os.environ.get("HOSTILE_ROUNDS", "1"))
CALLS = 20
"""Of the bystander in each part of a round."""
WORST_RATIO = 1.5
"""Of the bystander's median beside an attack to that beside honest load in the same round; of the
rounds, the median."""
ENOUGH_CALLS = 200
"""From which on the medians are judged."""
WORST_COST = 4.0
"""Of the server's processor time for a hostile request to that for an honest one."""
SETTLED_BYTES = 64 << 20
"""By which the server's memory may have grown after everything."""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    directory = tmp_path_factory.mktemp("hostile")
    socket = directory / "action.sock"
    process = Process(
        directory,
        {
            "action": {"model_config_name": "null"},
            "host": "127.0.0.1",
            "action_transport": {
                "websocket_port": 0,
                "quic_port": 0,
                "unix_socket_path": str(socket),
            },
        },
    )
    process.wait_for("ready")
    process.unix = f"unix:{socket}"
    yield process
    process.kill()


@pytest.fixture(params=["quic", "unix"])
def address(request, server):
    """Host and port; a bystander and its attacker share an address."""
    return (server.unix, None) if request.param == "unix" else ("127.0.0.1", server.ports()[1])


@pytest.fixture(scope="module")
def loader():
    """`loader(address, request)` loads the server with requests within a `with`."""
    given = os.environ.get("PYTHONPATH")
    tests = str(Path(__file__).parent.parent)
    process = subprocess.Popen(
        [sys.executable, "-m", "hostile.load"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{tests}{os.pathsep}{given}" if given else tests},
    )

    def said(line):
        process.stdin.write(line + "\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())

    @contextlib.contextmanager
    def load(address, request):
        host, port = address
        assert said(json.dumps({"host": host, "port": port, "request": request})) == "begun"
        counts = {}
        yield counts
        counts |= said("")

    yield load
    process.stdin.close()
    process.wait(60)
    process.stdout.close()


def resident_bytes(process):
    with Path(f"/proc/{process.popen.pid}/status").open() as status:
        line = next(line for line in status if line.startswith("VmRSS"))
    return int(line.split()[1]) << 10


def processor_seconds(process):
    # the process's own clock, as clock_getcpuclockid(3) names it, counts threads that have ended
    return time.clock_gettime((~process.popen.pid << 3) | 2)


def latencies(bystander):
    taken = []
    for _ in range(CALLS):
        began = time.perf_counter()
        bystander.infer(STATE)
        taken.append(time.perf_counter() - began)
        # as a robot: it does not ask at once again
        time.sleep(0.002)
    return taken


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_costs_bystanders_no_more_than_honest_load(server, address, loader, attack):
    beside, costs = {attack: [], "honest": []}, {attack: [], "honest": []}
    with FlashTransportPolicy(*address) as bystander:
        bystander.infer(STATE)
        before = resident_bytes(server)
        for _ in range(ROUNDS):
            for request in ("honest", attack):
                began = processor_seconds(server)
                with loader(address, request) as counts:
                    beside[request].append(statistics.median(latencies(bystander)))
                spent = processor_seconds(server) - began
                costs[request].append(spent / (sum(counts.values()) + CALLS))
                assert set(counts) == {"answered" if request == "honest" else "bad_request"}
        grown = resident_bytes(server) - before
    medians = {kind: statistics.median(taken) for kind, taken in beside.items()}
    pairs = zip(beside[attack], beside["honest"], strict=True)
    ratio = statistics.median(attacked / honest for attacked, honest in pairs)
    cost = statistics.median(costs[attack]) / statistics.median(costs["honest"])
    sys.stdout.write(
        f"{attack}: {1000 * medians[attack]:.2f} ms beside it, "
        f"{1000 * medians['honest']:.2f} ms beside honest load, ratio {ratio:.2f}, "
        f"processor time {cost:.2f} of it, memory {grown >> 20:+} MiB\n"
    )
    assert cost <= WORST_COST
    assert ROUNDS * CALLS < ENOUGH_CALLS or ratio <= WORST_RATIO
    assert grown <= SETTLED_BYTES
