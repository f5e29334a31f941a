"""What a planner costs the actions beside it: the demo's two models on one device, through slots.

One robot asks for actions, in rounds that alternate between the arms: without a planner, beside one
in the background that is always busy, beside one without turns and blocks, and inline.

usage: python benchmarks/models/planner_turns.py [--calls N] [--write docs/benchmarks.md]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np

from openpi_flash_models.demo.checkpoint import write_demo_checkpoint
from openpi_flash_models.load import load_planner, load_policy
from openpi_flash_models.policy.action_policy import ModelPolicy
from openpi_flash_models.policy.planner import SubtaskPlanner
from openpi_flash_models.robots import get_robot
from openpi_flash_server.config.live_prompts import LivePrompts, Prompts
from openpi_flash_server.config.prompt_template import fill_template
from openpi_flash_server.handlers.action import ActionHandler
from openpi_flash_server.handlers.combined import CombinedHandler, task_reader
from openpi_flash_server.handlers.planning import PlannerHandler
from openpi_flash_server.handlers.subtask_board import Pace
from openpi_flash_server.handlers.subtask_feed import SubtaskFeed
from openpi_flash_server.runners.device_turns import DeviceTurns
from openpi_flash_server.runners.own_thread import OwnThread
from openpi_flash_server.slot.answer import Answer, Reply
from openpi_flash_server.slot.client import Client
from openpi_flash_server.slot.events import Answered, Event
from openpi_flash_server.slot.slot import Slot

sys.path.insert(0, str(Path(__file__).parents[1]))
from results_page import machine, replace_section

ROUNDS = 8
SETTLING = 4
"""Requests of a round that are not counted: the robot's rhythm is not known yet."""
MARKS = [50, 90, 99]
"""Percentiles."""
TOKENS, BLOCK = 20, 4
TASK = "stack the cubes"
TEMPLATE = "{task}. Subtask: {subtask}"
BUSY = Pace(every_request=False, period=1e-6, longest_wait=30.0, oldest=60.0)
INLINE = Pace(every_request=True, period=1.0, longest_wait=30.0, oldest=60.0)


@dataclass(frozen=True)
class Request:
    """What the robot sees, and the subtask that the planner gives for it."""

    observation: dict[str, Any]
    subtask: str


@dataclass
class Arm:
    """A way to run the planner beside the actions."""

    name: str
    mode: str
    pace: Pace = BUSY
    in_turns: bool = True
    latencies: list[float] = field(default_factory=list)
    ages: list[float] = field(default_factory=list)
    runs: int = 0
    seconds: float = 0.0


class Server:
    """An action slot and a planner slot, wired as the server does it."""

    def __init__(self, policy: ModelPolicy, planner: SubtaskPlanner, arm: Arm) -> None:
        self.runs = 0
        self.planner, self.action = Slot("planner"), Slot("action")
        self.planner.subscribe(self._count)
        turns = DeviceTurns() if arm.in_turns else None
        handler = PlannerHandler(planner, default_prompt=TASK, turns=turns)
        self.planner.open(OwnThread("slot-planner", handler))
        action, prompts = (
            ActionHandler(policy),
            LivePrompts(Prompts(action_prompt_template=TEMPLATE)),
        )
        feed = SubtaskFeed(
            self.planner,
            pace=arm.pace,
            task_of=task_reader(action, prompts, None),
        )
        combined = CombinedHandler(action, feed, prompts=prompts, default_prompt=None)
        self.action.open(OwnThread("slot-action", combined, turns=turns), feed)

    def ask(self, message: dict[str, Any]) -> dict[str, Any]:
        """The reply to one request of the robot."""
        answered = threading.Event()
        answers: list[Answer] = []

        def respond(answer: Answer) -> None:
            answers.append(answer)
            answered.set()

        self.action.receive(
            lambda: dict(message),
            client=Client("robot", "robot"),
            session="robot",
            respond=respond,
            is_cancelled=lambda: False,
        )
        answered.wait()
        if not isinstance(answers[0], Reply):
            raise SystemExit(f"the request failed: {answers[0].message}")
        return answers[0].result

    def _count(self, event: Event) -> None:
        if isinstance(event, Answered) and isinstance(event.answer, Reply):
            self.runs += 1

    def close(self) -> None:
        """Ends its threads when all is run."""
        self.action.close(grace=60.0)
        self.planner.close(grace=60.0)


def main() -> None:
    """Measure, print the table, and write it if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=12, help="requests of an arm per round")
    parser.add_argument("--write", type=Path, help="page to write the table to")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        write_demo_checkpoint(Path(directory))
        policy = load_policy("pi05_sim_arm", Path(directory) / "action")
        whole, in_blocks = (
            load_planner(
                Path(directory) / "planner",
                robot="sim_arm",
                max_generation_tokens=TOKENS,
                block_tokens=block,
            )
            for block in (None, BLOCK)
        )
    for model in (policy, whole, in_blocks):
        model.warm_up()
    request = observation(in_blocks)
    typical = float(
        np.median(measure(policy, in_blocks, Arm("", "action_only"), request, calls=10, period=0.0))
    )
    tables = []
    for title, period in (("after each answer", 0.0), ("at half the device's rate", 2 * typical)):
        arms = [
            Arm("no planner", "action_only"),
            Arm("background, in turns", "default"),
            Arm("background, whole runs, no turns", "default", in_turns=False),
            Arm("inline", "default", pace=INLINE),
        ]
        for _ in range(ROUNDS):
            for arm in arms:
                planner = in_blocks if arm.in_turns else whole
                arm.latencies += measure(
                    policy, planner, arm, request, calls=options.calls, period=period
                )
        tables.append(describe(title, arms))
    head = (
        f"{machine()}, {os.cpu_count()} cores, load {os.getloadavg()[2]:.1f}, "
        f"jax {jax.__version__}, {jax.default_backend()}, n = "
        f"{ROUNDS * options.calls} each in {ROUNDS} alternating rounds; {TOKENS} tokens in blocks "
        f"of {BLOCK}."
    )
    text = "\n\n".join([head, *tables])
    print(text)
    if options.write is not None:
        replace_section(options.write, "models-planner", text)


def measure(
    policy: ModelPolicy,
    planner: SubtaskPlanner,
    arm: Arm,
    request: Request,
    *,
    calls: int,
    period: float,
) -> list[float]:
    """Latencies of one round, s; the robot asks once a period, but not before it has its answer."""
    server = Server(policy, planner, arm)
    message = {**request.observation, "prompt": TASK, "mode": arm.mode}
    if arm.mode == "action_only":
        # as long as with a subtask: the action model's time depends on it
        message["prompt"] = fill_template(TEMPLATE, task=TASK, subtask=request.subtask)
    latencies = []
    due = begun = time.perf_counter()
    for call in range(SETTLING + calls):
        time.sleep(max(0.0, due - time.perf_counter()))
        started = time.perf_counter()
        due = max(due + period, started)
        reply = server.ask(message)
        if call >= SETTLING:
            latencies.append(time.perf_counter() - started)
            if "subtask" in reply:
                arm.ages.append(reply["subtask"]["age_ms"])
    arm.seconds += time.perf_counter() - begun
    arm.runs += server.runs
    server.close()
    return latencies


def observation(planner: SubtaskPlanner) -> Request:
    """Noise in every image: to gray ones the planner says nothing."""
    generator = np.random.default_rng(0)
    made = dict(get_robot("sim_arm").example_observation())
    for key, value in made.items():
        if getattr(value, "ndim", 0) == 3:
            made[key] = generator.integers(0, 256, np.shape(value), dtype=np.uint8)
    subtask = planner.plan(made, prompt=TASK).text
    if not subtask:
        raise SystemExit("the planner says nothing, there is nothing to measure")
    return Request(made, subtask)


def describe(title: str, arms: list[Arm]) -> str:
    """One table, in Markdown."""
    lines = [
        f"| a robot that asks {title} | action p50 / p90 / p99 ms | ratios | subtasks/s "
        "| age p50 / p99 ms |",
        "|---|---|---|---|---|",
    ]
    alone = np.percentile(arms[0].latencies, MARKS)
    for arm in arms:
        marks = np.percentile(arm.latencies, MARKS)
        times = " / ".join(f"{1000 * mark:.0f}" for mark in marks)
        ratios = " / ".join(f"{ratio:.2f}" for ratio in marks / alone)
        ages = "{:.0f} / {:.0f}".format(*np.percentile(arm.ages, [50, 99])) if arm.ages else ""
        runs = f"{arm.runs / arm.seconds:.1f}" if arm.runs else ""
        lines.append(f"| {arm.name} | {times} | {ratios} | {runs} | {ages} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
