"""Plays trials through the whole robot: its processes, for as long as an evaluation lasts."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import sim_robot
from openpi_flash_training.evaluation.child_process import ChildProcess
from openpi_flash_training.evaluation.conditions import Trial
from openpi_flash_training.evaluation.film import EpisodeCamera
from openpi_flash_training.evaluation.policy import PolicyFailedError
from openpi_flash_training.evaluation.policy_choice import PolicyChoice, open_choice
from openpi_flash_training.evaluation.trial_result import TrialResult
from openpi_flash_training.through_ros.expert_server import ExpertServer
from openpi_flash_training.through_ros.node_parameters import method_parameters, node_parameters
from sim_robot.ros_domain import reserved_ros_domain

if TYPE_CHECKING:
    from openpi_flash_training.through_ros.referee import Referee

NAMESPACE = "/openpi"
NODE = f"{NAMESPACE}/client_node"


def run_trials_through_ros(
    choice: PolicyChoice,
    trials: Sequence[Trial],
    *,
    control_hz: float = 50.0,
    speed: float = 1.0,
    progress: Callable[[int], None] = lambda _: None,
) -> list[TrialResult]:
    """Play every trial in real time, one after the other.

    Args:
        choice: the policy; None: the expert, behind a server of its own.
        trials: what to try; their networks are not heeded, the real one is.
        control_hz: how often the node commands the arm.
        speed: simulated seconds per second; less than 1 where the machine is too busy for 1.
        progress: told how many are done.

    Raises:
        PolicyFailedError: there is no ROS 2, a process ends, or the policy cannot be asked.
        RenderingUnavailableError: there is no OpenGL to draw with.
    """
    policy = open_choice(choice)
    policy.close()
    agreement, results, last = policy.agreement, [], None
    with _robot(choice, control_hz, speed) as referee:
        for trial in trials:
            if trial.conditions != last:
                given = trial.conditions
                referee.set_parameters(
                    method_parameters(given, agreement.horizon, agreement.step_ns)
                )
                last = given
            results.append(referee.play(trial, EpisodeCamera() if trial.is_filmed else None))
            progress(len(results))
    return results


@contextlib.contextmanager
def _robot(choice: PolicyChoice, control_hz: float, speed: float) -> Iterator[Referee]:
    """The simulated robot and its node as processes, in a ROS domain of their own."""
    # as the processes that it starts
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    try:
        from openpi_flash_training.through_ros.referee import Referee
    except ImportError as error:
        raise PolicyFailedError(
            f"no ROS 2 with this project's packages in this Python ({error}); build the workspace "
            f"and source its setup file, or leave out --through ros"
        ) from error
    with contextlib.ExitStack() as held:
        folder = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="openpi-flash-ros-")))
        environ = {
            "ROS_DOMAIN_ID": str(held.enter_context(reserved_ros_domain())),
            "ROS_HOME": str(folder / "ros_home"),
            "PYTHONUNBUFFERED": "1",
        }
        expert = None
        if choice is None:
            expert = ExpertServer()
            held.callback(expert.close)
            choice = expert.choice
        parameters = folder / "node.yaml"
        given = {
            **node_parameters(control_hz),
            **choice.link,
            "server": choice.host,
            "transport": choice.transport,
            "use_sim_time": speed != 1.0,
        }
        # JSON is YAML
        parameters.write_text(json.dumps({"/**": {"ros__parameters": given}}))
        robot = held.enter_context(
            ChildProcess(
                "the simulated robot",
                [sys.executable, "-m", "sim_robot", "--speed", f"{speed:g}"],
                folder / "robot.log",
                {**environ, "PYTHONPATH": _with_sim_robot()},
            )
        )
        command = [sys.executable, "-m", "openpi_flash_client_node", "--ros-args"]
        command += ["-r", f"__ns:={NAMESPACE}", "--params-file", str(parameters)]
        node = held.enter_context(
            ChildProcess("the robot's node", command, folder / "node.log", environ)
        )

        def check() -> None:
            robot.check()
            node.check()

        referee = Referee(
            int(environ["ROS_DOMAIN_ID"]),
            NODE,
            check=check,
            on_report=(lambda _: None) if expert is None else expert.hear,
        )
        held.callback(referee.close)
        referee.configure()
        yield referee


def _with_sim_robot() -> str:
    folder = str(Path(sim_robot.__file__).parent.parent)
    others = os.environ.get("PYTHONPATH", "")
    return f"{folder}{os.pathsep}{others}" if others else folder
