"""The CPU time of the client node, beside a plain rclpy node that decodes every frame.

The nodes take turns at the same robot, a process of its own: three cameras at 30 Hz, reliable, and
joint states at 100 Hz. The client node commands a controller 50 times a second; its policy, another
process, answers at once. CPU time is that of the node's process with all its threads, by the
kernel's books.

usage: python benchmarks/ros_node_cost/compare.py [--rounds N] [--size WxH] [--write docs]
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))

from accounting import cpu_seconds
from results_page import machine, replace_section

from sim_robot.ros_domain import reserved_ros_domain

HERE = Path(__file__).parent
PUBLISHED = 90
"""Frames a second, of all cameras."""

WARM_UP_S = 8.0
"""Until the client node has found out that two frames of each camera suffice."""

FIRST_ANSWER_S = 60
"""In which the policy has to answer the client node for the first time."""


@dataclasses.dataclass(frozen=True)
class Arm:
    """One node: its program and arguments; `horizon` are the steps of 40 ms between requests."""

    name: str
    program: str
    options: tuple[str, ...] = ()
    horizon: int = 0


ARMS = (
    Arm("plain rclpy node that decodes every frame", "plain_node.py"),
    Arm("the same, which keeps its memory", "plain_node.py", ("--keep-memory",)),
    Arm("node that subscribes and takes nothing", "plain_node.py", ("--take-nothing",)),
    Arm(
        "client node, a callback for each message, rclpy's executor",
        "client_node.py",
        ("--each-message", "--rclpy-executor"),
        horizon=5,
    ),
    Arm("client node", "client_node.py", horizon=3),
    Arm("client node", "client_node.py", horizon=5),
    Arm("client node", "client_node.py", horizon=12),
)


@dataclasses.dataclass
class Result:
    """What the rounds of one arm took.

    Attributes:
        cpu: share of a core in each round.
        requests: a second, in each round.
        frames: that were copied to Python, a second, in each round.
        seconds: CPU time of each request, from where it was due to its bytes for the transport.
    """

    cpu: list[float] = dataclasses.field(default_factory=list)
    requests: list[float] = dataclasses.field(default_factory=list)
    frames: list[float] = dataclasses.field(default_factory=list)
    seconds: list[float] = dataclasses.field(default_factory=list)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all arms in turns and print the table."""
    args = parse(arguments)
    results = [Result() for _ in ARMS]
    with reserved_ros_domain() as domain, contextlib.ExitStack() as stack:
        os.environ["ROS_DOMAIN_ID"] = str(domain)
        server = stack.enter_context(running("policy_server.py"))
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        for turn in range(args.rounds):
            with running("robot.py", *args.size.split("x")):
                for offset in range(len(ARMS)):
                    index = (turn + offset) % len(ARMS)
                    measure(ARMS[index], results[index], port, args.seconds)
                    cpu = results[index].cpu[-1]
                    print(f"{turn + 1}: {ARMS[index].name}: {cpu:.1%}", file=sys.stderr, flush=True)
    table = describe(results, args)
    print(table)
    if args.write:
        replace_section(args.write / "benchmarks.md", f"ros-node-{args.size}", table)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line's choices."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="of all arms")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each arm and round")
    parser.add_argument("--size", default="640x480", help="of the cameras' images")
    parser.add_argument("--write", type=Path, metavar="DOCS", help="folder of benchmarks.md")
    return parser.parse_args(arguments)


@contextlib.contextmanager
def running(program: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A program of this folder, which is ended and, if that does not help, killed.

    A killed one would leave its shared memory behind: 32 MB.
    """
    command = [sys.executable, str(HERE / program), *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            yield process
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=10)
            process.kill()


def measure(arm: Arm, result: Result, port: str, seconds: float) -> None:
    """Run one arm for a while and add what it took."""
    arguments = list(arm.options)
    if arm.horizon:
        arguments += ["--ros-args", "--params-file", str(HERE / "robot.yaml")]
        arguments += ["-p", f"port:={port}", "-p", f"execution_horizon:={arm.horizon}"]
    with running(arm.program, *arguments) as process:
        if arm.horizon:
            assert process.stdout is not None
            if not select.select([process.stdout], [], [], FIRST_ANSWER_S)[0]:
                raise SystemExit(f"{arm.name}: no answer of the policy in {FIRST_ANSWER_S} s")
            process.stdout.readline()
        time.sleep(WARM_UP_S)
        if arm.horizon:
            process.send_signal(signal.SIGUSR1)
        before, began = cpu_seconds(process.pid), time.monotonic()
        time.sleep(seconds)
        spent, lasted = cpu_seconds(process.pid) - before, time.monotonic() - began
        result.cpu.append(spent / lasted)
        if not arm.horizon:
            return
        process.send_signal(signal.SIGINT)
        told = json.loads(process.communicate(timeout=30)[0].splitlines()[-1])
        result.requests.append(len(told["seconds"]) / lasted)
        result.frames.append(told["frames"] / lasted)
        result.seconds += told["seconds"]
    if "--each-message" in arm.options and result.frames[-1] < 0.8 * PUBLISHED:
        raise SystemExit(f"only {result.frames[-1]:.0f} of {PUBLISHED} frames a second arrive")


def describe(results: Sequence[Result], args: argparse.Namespace) -> str:
    """The Markdown table of a run, with the machine that it ran on."""
    lines = [
        f"{machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; three cameras of "
        f"{args.size} rgb8 at 30 Hz, joint states at 100 Hz; n = {args.rounds} rounds of "
        f"{args.seconds:g} s per arm, interleaved. Medians of the rounds; a ratio is against the "
        f"first row: the median of the rounds' ratios, and their quartiles.",
        "",
        "| node | requests/s | CPU, % of a core | CPU ratio | frames copied/s "
        "| due to wire, CPU ms p50 / p99 (n) |",
        "|---|---|---|---|---|---|",
    ]
    first = np.asarray(results[0].cpu)
    for arm, result in zip(ARMS, results, strict=True):
        low, middle, high = np.percentile(np.asarray(result.cpu) / first, [25, 50, 75])
        cells = [arm.name, "", f"{np.median(result.cpu):.1%}".rstrip("%")]
        copied = 0 if "--take-nothing" in arm.options else PUBLISHED
        cells += [f"{middle:.2f} ({low:.2f}-{high:.2f})", str(copied), ""]
        if arm.horizon:
            cells[1] = f"{np.median(result.requests):.1f}"
            cells[4] = f"{np.median(result.frames):.0f}"
            p50, p99 = np.percentile(np.asarray(result.seconds) * 1e3, [50, 99])
            cells[5] = f"{p50:.1f} / {p99:.1f} ({len(result.seconds)})"
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
