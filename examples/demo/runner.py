"""Runs the whole demo: starts its processes in turn, watches the run, and judges it."""

from __future__ import annotations

import contextlib
import datetime
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from demo.film import FILM_SECONDS, write_film
from demo.frames import Frame
from demo.live_line import live_line
from demo.processes import Command, ProcessDiedError, Processes
from demo.recording import Recording
from demo.report import summary_lines, write_report
from demo.run_data import RunData, State
from demo.served_policy import ServedPolicy, trained, untrained
from demo.server_setup import (
    Ports,
    checkpoint_path,
    free_ports,
    keep_checkpoint,
    server_config,
    write_server_config,
)
from demo.terminal import Terminal
from demo.verdict import Bounds, judge, passed
from demo.waiting import NotReadyError, is_healthy, wait_until
from sim_robot.episode import order_of_prompt
from sim_robot.ros_domain import reserved_ros_domain

if TYPE_CHECKING:
    from demo.episodes import EpisodePlayer
    from demo.monitor import Monitor

ROOT = Path(__file__).parent.parent.parent
ROBOT_CONFIG = ROOT / "config" / "robots" / "sim_arm.yaml"
DDS_PROFILE = ROOT / "config" / "dds" / "large_images.xml"

SERVER_LIMIT = 300.0
"""Seconds for loading and compiling; 20 to 60 on a machine with two cores."""
ROBOT_LIMIT = 60.0
FIRST_CHUNK_LIMIT = 60.0
CHECKPOINT_LIMIT = 300.0

SEED = 7
"""Of the starts."""

NOTHING_TO_RECORD = (
    "--record records episodes, of which there are none: it needs trained weights and a prompt "
    'that is a task, as in "touch the blue cube"'
)


@dataclass(frozen=True)
class Options:
    """What the user asked for."""

    seconds: float
    transport: str
    """"quic" or "websocket"."""
    prompt: str
    output: Path
    """The folder for this run's results; made if missing."""
    cache: Path
    """Where the checkpoint is kept between runs."""
    film: Path | None = None
    """Where a film of the run goes, if one is wanted."""
    record: Path | None = None
    """Where the node records the episodes, if it is to."""
    weights: Path | None = None
    """A checkpoint of the user's for the arm; None: the project's own, or random weights."""
    is_untrained: bool = False
    """Whether weights are random, also where there are trained ones."""


def run_demo(options: Options, terminal: Terminal) -> int:
    """Run the demo; return its exit code: 0 if everything held, else 1."""
    options.output.mkdir(parents=True, exist_ok=True)
    terminal.say(f"demo: results go to {options.output}")
    try:
        with reserved_ros_domain() as domain:
            os.environ.update(ros_environ(domain, options.output))
            with Processes(options.output) as processes:
                return _Demo(options, terminal, processes).run()
    except (ProcessDiedError, NotReadyError) as error:
        terminal.say(f"error: {error}")
        terminal.say(f"hint: the logs of all processes are in {options.output}")
        return 1
    finally:
        terminal.clear_live()


def ros_environ(domain: int, output: Path) -> dict[str, str]:
    """Return what keeps the demo's ROS traffic to itself, and its files in the run's folder."""
    return {
        # ROS's logs, and the black box that a fault leaves
        "ROS_HOME": str(output.absolute() / "ros_home"),
        "ROS_DOMAIN_ID": str(domain),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        # Jazzy reads the first name, later distributions the second
        "FASTRTPS_DEFAULT_PROFILES_FILE": str(DDS_PROFILE),
        "FASTDDS_DEFAULT_PROFILES_FILE": str(DDS_PROFILE),
        # logs of all processes line by line, also into files
        "RCUTILS_LOGGING_BUFFERED_STREAM": "0",
        "PYTHONUNBUFFERED": "1",
    }


def xla_cache_environ(folder: Path) -> dict[str, str]:
    """Return what lets JAX keep compiled models: the next start takes a third of the time."""
    return {
        "JAX_COMPILATION_CACHE_DIR": str(folder),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.5",
    }


class _Demo:
    def __init__(self, options: Options, terminal: Terminal, processes: Processes) -> None:
        self._options = options
        self._terminal = terminal
        self._processes = processes
        self._player: EpisodePlayer | None = None

    def run(self) -> int:
        ports = free_ports()
        policy = self._policy()
        order = order_of_prompt(self._options.prompt, SEED, 0) if policy.is_trained else None
        if order is None and self._options.record is not None:
            raise NotReadyError(NOTHING_TO_RECORD)
        self._start_server(policy, ports)
        # rclpy reads the environment when it is imported
        from demo.episodes import EpisodePlayer
        from demo.monitor import Monitor

        film_seconds = 0.0 if self._options.film is None else FILM_SECONDS
        prefixes = [Path(p) for p in os.environ.get("AMENT_PREFIX_PATH", "").split(":") if p]
        with (
            Recording(self._options.output / "recording.mcap", prefixes) as recording,
            contextlib.closing(Monitor(recording, self._options.seconds, film_seconds)) as monitor,
        ):
            self._start_robot(monitor)
            if order is not None:
                domain = int(os.environ["ROS_DOMAIN_ID"])
                is_recorded = self._options.record is not None
                self._player = EpisodePlayer(domain, order, is_recorded=is_recorded)
            try:
                self._start_node(monitor, policy, ports)
                self._watch(monitor)
            finally:
                if self._player is not None:
                    self._player.close()
            run = self._run_data(monitor, policy)
            frames, film = list(monitor.frames), list(monitor.film)
        self._terminal.say("  stopping")
        self._processes.stop_all()
        if self._options.film is not None:
            self._draw_film(run, film, self._options.film)
        run = replace(run, exit_codes=dict(self._processes.exit_codes))
        if self._options.record is not None:
            self._terminal.say(f"  episodes recorded in {self._options.record}")
        return self._conclude(run, frames, policy)

    def _policy(self) -> ServedPolicy:
        found = None if self._options.is_untrained else trained(self._options.weights)
        return found or untrained(self._checkpoint(), ROBOT_CONFIG)

    def _run_data(self, monitor: Monitor, policy: ServedPolicy) -> RunData:
        player = self._player
        return monitor.run_data(
            self._options.transport,
            self._options.prompt,
            has_planner=policy.planner is not None,
            episodes=None if player is None else player.episodes,
            placed=[] if player is None else player.placed,
        )

    def _checkpoint(self) -> Path:
        finished = checkpoint_path(self._options.cache)
        if finished.is_dir():
            return finished
        unfinished = finished.with_name(f"{finished.name}.{os.getpid()}.unfinished")
        finished.parent.mkdir(parents=True, exist_ok=True)
        name = "checkpoint"
        self._processes.start(
            Command(name, ["openpi-flash", "make-demo-checkpoint", str(unfinished)])
        )
        self._wait(
            lambda: self._processes.has_ended(name),
            "demo checkpoint: made (once)",
            CHECKPOINT_LIMIT,
        )
        keep_checkpoint(unfinished, finished)
        return finished

    def _start_server(self, policy: ServedPolicy, ports: Ports) -> None:
        config = self._options.output / "server_config.json"
        state = self._options.cache / "server"
        write_server_config(config, server_config(policy, ports, state, self._options.prompt))
        self._processes.start(
            Command(
                "server",
                ["openpi-flash", "serve", "--config", str(config)],
                xla_cache_environ(self._options.cache / "xla"),
            )
        )
        self._wait(
            lambda: (
                is_healthy(ports.action_websocket)
                and (policy.planner is None or is_healthy(ports.planner_websocket))
            ),
            "policy server: loaded, compiled, ready",
            SERVER_LIMIT,
        )

    def _start_robot(self, monitor: Monitor) -> None:
        self._processes.start(
            Command(
                "robot",
                [sys.executable, "-m", "sim_robot"],
                {"PYTHONPATH": _with_path(os.environ, ROOT / "examples")},
            )
        )
        self._wait(
            lambda: monitor.robot_speaks,
            "simulated robot: cameras and joint states",
            ROBOT_LIMIT,
            monitor,
        )

    def _start_node(self, monitor: Monitor, policy: ServedPolicy, ports: Ports) -> None:
        parameters = {
            "server": "127.0.0.1",
            "port": ports.action(self._options.transport),
            "transport": self._options.transport,
            "prompt": self._options.prompt,
            "dry_run": "false",
            # episodes begin when their player says so
            "autostart": "true" if self._player is None else "false",
        }
        if self._options.record is not None:
            parameters["record_folder"] = str(self._options.record)
        arguments = [sys.executable, "-m", "openpi_flash_client_node", "--ros-args"]
        arguments += ["-r", "__ns:=/openpi", "--params-file", str(policy.node_file)]
        for name, value in parameters.items():
            arguments += ["-p", f"{name}:={value}"]
        self._processes.start(Command("node", arguments))
        self._wait(
            lambda: _is_running(monitor) or self._failure is not None,
            "robot node: first chunk executed",
            FIRST_CHUNK_LIMIT,
            monitor,
        )

    def _watch(self, monitor: Monitor) -> None:
        monitor.begin()
        while (elapsed := monitor.elapsed) < self._options.seconds:
            self._processes.check()
            line = live_line(
                elapsed,
                monitor.chunks_so_far,
                monitor.inferences,
                monitor.status,
                self._words(monitor),
            )
            self._terminal.live(f"  {line}", elapsed)
            monitor.spin(min(0.25, self._options.seconds - elapsed))

    def _words(self, monitor: Monitor) -> str:
        """What the live line ends with."""
        words = [f'"{monitor.subtasks[-1].text}"'] if monitor.subtasks else []
        if self._player is not None:
            if self._failure is not None:
                raise NotReadyError(self._failure)
            episodes = self._player.episodes
            done = sum(episode.is_success for episode in episodes)
            words.append(f'"{self._options.prompt}" {done} of {len(episodes)} done')
        return ", ".join(words)

    @property
    def _failure(self) -> str | None:
        """Why no episodes can be played; None: they are, or there are none to play."""
        return None if self._player is None else self._player.failure

    def _draw_film(self, run: RunData, frames: list[Frame], path: Path) -> None:
        try:
            write_film(run, frames, path)
        except (ValueError, OSError) as error:
            self._terminal.say(f"error: no film was written to {path}: {error}")
        else:
            self._terminal.say(f"  film: {path}")

    def _conclude(self, run: RunData, frames: list[Frame], policy: ServedPolicy) -> int:
        checks = judge(run, bounds_of(policy.node_file))
        write_report(self._options.output, run, frames, checks)
        for line in summary_lines(run, checks):
            self._terminal.say(line)
        self._terminal.say(
            f"demo: {'passed' if passed(checks) else 'FAILED'}; see joints.png, latency.png, "
            f"frames/ and recording.mcap (Foxglove) in {self._options.output}"
        )
        return 0 if passed(checks) else 1

    def _wait(self, holds: Any, what: str, seconds: float, monitor: Monitor | None = None) -> None:
        options: dict[str, Any] = {}
        if monitor is not None:
            options = {"pause": monitor.spin, "why_not": lambda: _last_words(monitor)}
        wait_until(
            holds,
            what,
            seconds=seconds,
            processes=self._processes,
            terminal=self._terminal,
            **options,
        )


def _is_running(monitor: Monitor) -> bool:
    return monitor.status is not None and monitor.status.state is State.RUNNING


def _last_words(monitor: Monitor) -> str:
    status = monitor.status
    if status is None:
        return "" if monitor.robot_speaks else "no cameras or joint states were heard"
    return f"the node says {status.state.name}: {status.message or 'nothing'}"


def bounds_of(robot_config: Path) -> Bounds:
    """Return the bounds that the node's own parameters imply."""
    parameters = yaml.safe_load(robot_config.read_text())["/**"]["ros__parameters"]
    return Bounds(
        max_observation_age=float(parameters["max_observation_age"]),
        max_chunk_age=float(parameters["max_chunk_age"]),
    )


def default_output(now: datetime.datetime) -> Path:
    """Return the folder of a run that begins now."""
    return ROOT / "demo_output" / now.strftime("%Y-%m-%d_%H-%M-%S")


def _with_path(environ: Mapping[str, str], folder: Path) -> str:
    others = environ.get("PYTHONPATH", "")
    return f"{folder}:{others}" if others else str(folder)
