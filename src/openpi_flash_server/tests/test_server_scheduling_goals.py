"""What the scheduler promises to robots, measured in virtual time against a simulated device."""

import heapq

import numpy as np
import pytest
from simulated_device import Client, Simulation

STEP = 0.020
"""s that the device takes for one observation."""

SETTLING = 5
"""A client's first requests, before its rhythm is known."""


def one_by_one(size):
    return STEP * size


def eight_for_two(size):
    """A batch of 8 takes as long as 2 single ones."""
    return STEP * (1 + (size - 1) / 7)


def per_second(simulation, clients):
    answered = sum(simulation.answered[client.name] for client in clients)
    return answered / simulation.now


def ideal_p99(arrivals):
    """Of the schedule that never idles and keeps the order: no other has a lower maximum."""
    free, latencies = 0.0, []
    for arrival in sorted(arrivals):
        free = max(free, arrival) + STEP
        latencies.append(free - arrival)
    return np.percentile(latencies, 99)


def test_eight_robots_wait_as_long_as_in_the_ideal_schedule():
    robots = [
        Client(f"r{index}", period=0.2, phase=index * 0.013, jitter=0.01) for index in range(8)
    ]
    simulation = Simulation(robots, duration=one_by_one)
    arrivals = []
    submit = simulation.scheduler.submit

    def remembering(request, now):
        arrivals.append(now)
        return submit(request, now)

    simulation.scheduler.submit = remembering
    simulation.run(20.0)
    assert simulation.dropped == []
    assert simulation.p99(*(robot.name for robot in robots)) <= 1.1 * ideal_p99(arrivals)


def test_eight_robots_that_send_at_once_again_take_turns():
    robots = [Client(f"r{index}", think=0.001) for index in range(8)]
    simulation = Simulation(robots, duration=one_by_one).run(20.0)
    # a turn lasts as long as eight inferences
    assert simulation.p99(*(robot.name for robot in robots)) <= 1.1 * 8 * STEP
    assert per_second(simulation, robots) == pytest.approx(1 / STEP, rel=0.01)


@pytest.mark.parametrize("network", [0.0002, 0.001, 0.002])
def test_batches_of_eight_that_cost_two_give_three_times_the_answers(network):
    robots = [Client(f"r{index}", think=network, jitter=network / 2) for index in range(8)]
    simulation = Simulation(
        robots, duration=eight_for_two, max_batch=8, max_wait=0.003, seed=1
    ).run(20.0)
    assert per_second(simulation, robots) >= 3 / STEP


def test_a_robot_alone_never_waits_for_a_batch():
    robot = Client("robot", period=0.1, jitter=0.002)
    simulation = Simulation([robot], duration=eight_for_two, max_batch=8, max_wait=0.003).run(20.0)
    assert max(simulation.latencies["robot"]) == pytest.approx(STEP)


@pytest.mark.parametrize("count", [8, 16, 32])
@pytest.mark.parametrize("max_batch", [1, 8])
def test_robots_that_ask_too_much_still_get_answers_in_time(count, max_batch):
    deadline = 0.1
    robots = [
        Client(f"r{index}", period=0.1, phase=index * 0.0037, jitter=0.01, deadline=deadline)
        for index in range(count)
    ]
    duration = eight_for_two if max_batch == 8 else one_by_one
    simulation = Simulation(robots, duration=duration, max_batch=max_batch).run(20.0)
    in_time = [
        sum(latency <= deadline for latency in simulation.latencies[robot.name]) for robot in robots
    ]
    most = min(10.0 * count, max_batch / duration(max_batch)) * simulation.now
    assert sum(in_time) >= 0.95 * most
    # nobody gets his answers at the cost of another
    assert min(in_time) >= 0.8 * sum(in_time) / count


SIMULATORS = {
    "four simulators": [Client(f"sim{index}", rank=2, address="workstation") for index in range(4)],
    "one with 64 environments": [Client("sim", rank=2, size=64)],
}
ROBOTS = {
    "at 10 Hz": [Client("r0", period=0.1, jitter=0.005)],
    "after each answer": [Client("r0", think=0.05, jitter=0.01)],
    "four at 5 Hz": [
        Client(f"r{index}", period=0.2, phase=index * 0.017, jitter=0.005) for index in range(4)
    ],
    "without a rhythm": [Client("r0", think=0.0, jitter=0.3)],
}


@pytest.mark.parametrize("simulators", SIMULATORS)
@pytest.mark.parametrize("robots", ROBOTS)
@pytest.mark.parametrize("max_batch", [1, 8])
def test_evaluation_slows_robots_down_by_a_tenth_at_most(robots, simulators, max_batch):
    duration = eight_for_two if max_batch == 8 else one_by_one
    options = {"duration": duration, "max_batch": max_batch}
    names = [robot.name for robot in ROBOTS[robots]]
    alone = Simulation(ROBOTS[robots], **options).run(40.0)
    beside = Simulation(ROBOTS[robots] + SIMULATORS[simulators], **options).run(40.0)
    assert beside.p99(*names, after=SETTLING) <= 1.1 * alone.p99(*names, after=SETTLING)
    # and it is served, if seldom beside a robot without a rhythm
    least = 0.1 if robots == "without a rhythm" else 10.0
    assert per_second(beside, SIMULATORS[simulators]) >= least


@pytest.mark.parametrize("deadline", [None, 0.5], ids=["no deadline", "urgent"])
def test_a_robot_keeps_its_pace_beside_a_client_with_sixty_sessions(deadline):
    robot = Client("robot", period=0.1)
    greedy = [Client(f"g{index}", address="greedy", deadline=deadline) for index in range(60)]
    simulation = Simulation([robot, *greedy], duration=one_by_one).run(10.0)
    # the running one and at most one more of the other client come first
    assert simulation.p99("robot") <= 3 * STEP + 1e-9
    assert simulation.answered["robot"] >= 99


GREEDY_AS = {
    "another connection of the robot's computer": {"address": "robot", "connection": "greedy"},
    "another computer": {"address": "greedy", "connection": "greedy"},
    "sixty computers with another key": {"api_key": 1},
}


@pytest.mark.parametrize("greedy", GREEDY_AS)
def test_sixty_sessions_delay_a_robot_as_little_as_one(greedy):
    def beside(count):
        robot = Client("robot", period=0.1, jitter=0.02, address="robot")
        others = [Client(f"g{index}", **GREEDY_AS[greedy]) for index in range(count)]
        options = {"duration": one_by_one, "capacity": 16}
        return Simulation([robot, *others], **options).run(10.0)

    one, many = beside(1), beside(60)
    assert many.p99("robot") <= 1.3 * one.p99("robot")
    assert many.answered["robot"] >= 0.99 * one.answered["robot"]


def test_a_greedy_client_that_fills_every_place_keeps_nobody_out():
    robots = [Client(f"r{index}") for index in range(4)]
    greedy = [Client(f"g{index}", address="greedy") for index in range(100)]
    simulation = Simulation([*robots, *greedy], duration=one_by_one, capacity=16).run(5.0)
    refused = {drop.request.session for drop in simulation.dropped}
    assert not refused & {robot.name for robot in robots}
    served = [simulation.answered[robot.name] for robot in robots]
    # five clients, a fifth of the device for each
    assert min(served) >= 0.9 * 5.0 / STEP / 5


def test_connections_of_one_computer_share_its_part():
    robot, sessions = Client("robot", address="lab"), []
    for index in range(10):
        sessions.append(Client(f"g{index}", address="lab"))
    simulation = Simulation([robot, *sessions], duration=one_by_one).run(10.0)
    assert simulation.answered["robot"] >= 0.9 * 10.0 / STEP / 11


def test_the_earliest_deadline_is_first_among_equals():
    late = [Client(f"late{index}", period=0.4, deadline=0.4) for index in range(4)]
    soon = [Client(f"soon{index}", period=0.4, deadline=0.1) for index in range(4)]
    simulation = Simulation([*late, *soon], duration=one_by_one).run(4.0)
    assert simulation.dropped == []
    assert simulation.p99(*(client.name for client in soon)) <= 0.1 + STEP


def test_a_large_request_lets_robots_through_between_its_pieces():
    robot = Client("robot", period=0.1, phase=0.005)
    simulator = Client("sim", size=64, think=1000.0)
    simulation = Simulation([robot, simulator], duration=eight_for_two, max_batch=8).run(3.0)
    assert simulation.answered["sim"] == 64
    assert max(simulation.latencies["robot"]) <= 2 * eight_for_two(8) + 1e-9


def test_requests_that_cannot_share_a_call_run_one_after_the_other():
    robots = [Client(f"r{index}", think=0.001, key=str(index % 2)) for index in range(4)]
    simulation = Simulation(robots, duration=eight_for_two, max_batch=8, max_wait=0.003).run(5.0)
    for _, pieces in simulation.batches:
        assert len({piece.request.key for piece in pieces}) == 1
    assert min(simulation.answered[robot.name] for robot in robots) > 50


def test_the_ideal_schedule_is_that_of_a_queue():
    assert ideal_p99([0.0, 0.0]) == pytest.approx(2 * STEP, rel=0.01)
    agenda = [0.0, 1.0]
    heapq.heapify(agenda)
    assert ideal_p99(agenda) == pytest.approx(STEP)


PLAN = 0.2
"""s that a planner takes for one subtask."""


def planner_queue(*others, refreshing=20):
    """Robots whose subtasks are refreshed more often than the planner can, and `others`."""
    robots = [
        Client(f"r{index}", period=1.0, phase=index * 0.01, address="action slot", is_awaited=False)
        for index in range(refreshing)
    ]
    simulation = Simulation([*robots, *others], duration=lambda size: PLAN * size)
    return robots, simulation.run(60.0)


def test_a_session_without_a_subtask_waits_for_the_running_plan_alone():
    newcomers = [
        Client(f"n{index}", period=1000.0, phase=5.0 + 3.17 * index, address="action slot")
        for index in range(15)
    ]
    robots, simulation = planner_queue(*newcomers)
    waits = [simulation.latencies[newcomer.name] for newcomer in newcomers]
    assert [len(each) for each in waits] == [1] * 15
    assert max(each[0] for each in waits) <= 2 * PLAN + 1e-9
    # a refresh waits for those of others
    assert simulation.p99(*(robot.name for robot in robots)) > 4 * PLAN


def test_first_subtasks_of_several_sessions_keep_their_order():
    newcomers = [
        Client(f"n{index}", period=1000.0, phase=5.0 + 0.001 * index, address="action slot")
        for index in range(3)
    ]
    _, simulation = planner_queue(*newcomers)
    first, second, third = (simulation.latencies[newcomer.name][0] for newcomer in newcomers)
    assert first < second < third <= 4 * PLAN + 1e-9


def test_a_session_that_changes_its_task_all_the_time_takes_no_more_than_its_share():
    restless = Client("restless", think=0.0, address="action slot")
    robots, simulation = planner_queue(restless, refreshing=9)
    counts = [simulation.answered[robot.name] for robot in robots]
    assert min(counts) >= simulation.answered["restless"] - 2
    assert min(counts) >= 28
