"""`openpi-flash plan`: its model against the scheduler in virtual time, and against a real load."""

import dataclasses
import json
import random
import time

import numpy as np
import pytest
from server_configs import NULL_ACTION, parse
from server_fakes import SPEC, FakePlanner, FakePolicy
from simulated_device import Client, Simulation
from typer.testing import CliRunner

from openpi_flash_server.cli import app
from openpi_flash_server.contract.inputs import parse_inputs
from openpi_flash_server.serving.loading import Loaders
from openpi_flash_server.serving.service import Service
from openpi_flash_server.sizing.plan import SERVER_MS, Device, Fleet, longest_rtt_ms, plan
from openpi_flash_server.sizing.waiting import share_that_waits, wait_quantile
from openpi_flash_server.sizing.weights import MODELS
from openpi_flash_server.sizing.weights import PLANNER as PLANNER_WEIGHTS

CALL_MS = 45.0


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


# the queue


def test_one_other_robot_is_met_as_often_as_it_computes():
    # the other computes for one of ten units, at a moment of its own
    assert share_that_waits(0.0, 1, 10.0) == pytest.approx(0.1)
    assert share_that_waits(0.5, 1, 10.0) == pytest.approx(0.05)
    assert share_that_waits(1.0, 1, 10.0) == 0


def test_nobody_waits_behind_nobody_and_for_ever_behind_too_many():
    assert wait_quantile(0.99, 0, 10.0) == 0
    assert wait_quantile(0.5, 10, 10.0) == float("inf")


def test_waiting_is_never_longer_than_all_others_at_once():
    for others in (1, 3, 7, 31):
        waits = [wait_quantile(share, others, others * 1.3) for share in (0.5, 0.9, 0.99, 0.9999)]
        assert waits == sorted(waits)
        assert waits[-1] <= others


def simulated_ms(robots, rate_hz, device, fleets, seconds=6.0):
    """The latencies of many fleets of robots at phases of their own, by the real scheduler."""
    period = 1 / rate_hz
    latencies = []
    for seed in range(fleets):
        phases = random.Random(seed)
        clients = [
            Client(f"r{number}", period=period, phase=phases.uniform(0, period))
            for number in range(robots)
        ]
        simulation = Simulation(
            clients,
            duration=lambda size: device.batch_ms(size) / 1e3,
            max_batch=device.max_batch,
        ).run(seconds)
        latencies += [value for client in clients for value in simulation.latencies[client.name]]
    return np.array(latencies) * 1e3


@pytest.mark.parametrize(("robots", "rate_hz"), [(4, 2.0), (8, 2.0), (15, 1.2)])
def test_the_plan_is_what_the_scheduler_does_to_a_stub_policy(robots, rate_hz):
    found = plan(Fleet(robots, rate_hz, 3, rtt_ms=0), Device(CALL_MS), gpus=1)
    measured = simulated_ms(robots, rate_hz, Device(CALL_MS), fleets=80)
    # the simulation has neither a network nor a codec
    rest = Fleet(robots, rate_hz, 3).transfer_ms + SERVER_MS
    for share, planned in ((50, found.median_ms), (99, found.p99_ms)):
        assert planned - rest == pytest.approx(np.percentile(measured, share), rel=0.15), share


def test_a_plan_with_batches_promises_no_less_time_than_the_scheduler_takes():
    device = Device(CALL_MS, max_batch=8, further=0.3)
    found = plan(Fleet(16, 2.0, 3, rtt_ms=0), device, gpus=1)
    assert found.busy < 0.8
    measured = simulated_ms(16, 2.0, device, fleets=20)
    assert np.percentile(measured, 99) <= found.p99_ms


# the plan


def test_a_robot_more_needs_at_some_point_a_gpu_more():
    gpus = [plan(Fleet(robots, 2.0, 3), Device(CALL_MS)).gpus for robots in range(1, 40)]
    assert gpus[0] == 1
    assert gpus == sorted(gpus)
    assert gpus[-1] == 5
    # 0.8 of a GPU is eight robots that take 0.09 s a second
    assert gpus.index(2) + 1 == 9


def test_a_longer_round_trip_or_a_slower_link_makes_answers_later_and_nothing_else():
    near = plan(Fleet(8, 2.0, 3, rtt_ms=1), Device(CALL_MS), gpus=1)
    far = plan(Fleet(8, 2.0, 3, rtt_ms=41), Device(CALL_MS), gpus=1)
    assert far.p99_ms - near.p99_ms == pytest.approx(40)
    assert far.busy == near.busy
    slow = Fleet(8, 2.0, 3, link_mbit_s=20)
    assert slow.transfer_ms == pytest.approx(181, abs=1)
    assert Fleet(8, 2.0, 3, link_mbit_s=20, jpeg=True).transfer_ms < slow.transfer_ms / 8


def test_the_longest_round_trip_is_just_enough():
    fleet = Fleet(8, 2.0, 3, rtt_ms=40, control_hz=50)
    rtt = longest_rtt_ms(fleet, plan(fleet, Device(CALL_MS), gpus=1))
    for factor, is_enough in ((0.99, True), (1.01, False)):
        tried = Fleet(8, 2.0, 3, rtt_ms=rtt * factor, control_hz=50)
        assert plan(tried, Device(CALL_MS), gpus=1).is_enough is is_enough


def test_too_many_robots_share_what_there_is():
    found = plan(Fleet(40, 2.0, 3), Device(50.0), gpus=1)
    assert found.busy == pytest.approx(4.0)
    assert found.answers_hz * 40 == pytest.approx(1000 / 50.0)
    assert not found.is_enough
    # a request is replaced by the robot's next one
    assert found.p99_ms <= 500 + 50 + 20


def test_the_fewest_gpus_for_a_control_rate_that_is_too_fast_are_not_enough():
    found = plan(Fleet(3, 2.0, 3, horizon=10, control_hz=200, rtt_ms=80), Device(CALL_MS))
    assert (found.gpus, found.is_enough) == (3, False)


def test_weights_are_those_of_the_tensors():
    gb = {name: model.gigabytes("bfloat16") for name, model in MODELS.items()}
    assert gb == pytest.approx({"pi0": 6.48, "pi05": 6.94, "pi0-fast": 5.84})
    assert MODELS["pi0"].gigabytes("float32") == pytest.approx(12.96)
    # PaliGemma's own figure for its 3B model
    assert PLANNER_WEIGHTS.low == pytest.approx(2.92)


# the command


def test_the_command_reports_and_its_exit_code_says_whether_it_is_enough():
    result = run("plan", "--robots", 8, "--cameras", 3, "--rate", 2, "--rtt-ms", 40)
    assert result.exit_code == 0
    lines = dict(line.split(maxsplit=1) for line in result.output.splitlines())
    assert lines["network"].startswith("453 kB a request, 7.2 Mb/s a robot, 58 Mb/s in all")
    assert "assumed" in lines["model"]
    assert lines["GPUs"] == "1, each for 8 robots and 72% busy"
    assert lines["verdict"].startswith("enough: ")
    late = run("plan", "--robots", 8, "--rate", 2, "--horizon", 10, "--control-hz", 100)
    assert late.exit_code == 1
    assert "too late: a chunk of 100 ms needs answers within 50 ms" in late.output
    full = run("plan", "--robots", 40, "--rate", 2, "--gpus", 1, "--call-ms", 50)
    assert "too much: a robot gets 0.5 of 2 answers a second" in full.output
    assert "assumed" not in full.output


def test_json_has_the_same_numbers():
    flags = ("--robots", 8, "--rate", 2, "--rtt-ms", 40, "--model", "pi0", "--planner")
    told = json.loads(run("plan", *flags, "--json").stdout)
    assert (told["gpus"], told["is_enough"], told["request_bytes"]) == (1, True, 452_584)
    assert told["memory_gb"] == pytest.approx(6.48 + 5.84 + 2.0)
    assert told["p99_ms"] > told["median_ms"] > 40 + CALL_MS


# against openpi-flash load


class Sleeps(FakePolicy):
    """Takes 50 ms for an answer, as a device that does nothing else."""

    spec = dataclasses.replace(
        SPEC, inputs=parse_inputs([{"path": ["state"], "kind": "joints", "shape": [2]}])
    )

    def infer(self, observation, controls=None):
        time.sleep(0.050)
        return super().infer(observation, controls)


@pytest.fixture
def port(tmp_path):
    loaders = Loaders(policy=lambda settings: Sleeps(), planner=lambda *settings: FakePlanner())
    ports = {"websocket_port": 0, "quic_port": 0}
    values = {"action": NULL_ACTION, "action_transport": ports, "planner_transport": ports}
    values |= {"host": "127.0.0.1", "state_dir": str(tmp_path / "state")}
    service = Service(parse(values), loaders)
    service.load()
    yield service.endpoints["action"].quic.port
    service.close(grace=0)


def test_a_real_load_gets_what_the_plan_says_at_most(port):
    clients, rates = 4, (2.0, 20.0)
    flags = ("--clients", clients, "--rate", "2,20", "--seconds", 2, "--json")
    result = run("load", "127.0.0.1", "--port", port, *flags)
    light, heavy = json.loads(result.stdout)["rows"]
    planned = [plan(Fleet(clients, rate, 0), Device(50.0), gpus=1) for rate in rates]
    # a busy machine is slower than the plan, and never faster
    assert planned[0].is_enough
    assert light["answered"] == light["sent"]
    assert light["latency_ms"]["min"] >= 50.0
    assert not planned[1].is_enough
    most = planned[1].answers_hz * clients
    assert most == pytest.approx(20.0)
    # and one that runs at the end of each second
    assert most / 4 <= heavy["answered_per_s"] <= most + 2
    assert heavy["superseded"] > 0
