"""Evaluation on Ray: policies served, and trials played, on the machines of a cluster."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.actor_pool import ActorPool

from openpi_flash_training.evaluation.policy import PolicyFailedError
from openpi_flash_training.evaluation.served_policy import ServerChoice
from openpi_flash_training.evaluation.server_process import serving

if TYPE_CHECKING:
    from openpi_flash_training.evaluation.conditions import Trial
    from openpi_flash_training.evaluation.policy_choice import PolicyChoice
    from openpi_flash_training.evaluation.trial_result import TrialResult

LOCAL = "local"
"""The address of a Ray of this machine, for as long as the evaluation lasts."""

LONGEST_START = 1800.0
"""s that a server's machine and its model may take: a download and a compilation."""


class RayCluster:
    """A connection to a cluster, whose workers play trials.

    Args:
        address: HOST:PORT of its head, `auto` for the one of this machine, or `local`.
        workers: how many trials are played at once, each in a process with a CPU of its own.

    Raises:
        PolicyFailedError: there is no such cluster.
    """

    def __init__(self, address: str, workers: int) -> None:
        self._workers = workers
        options: dict[str, Any] = {"address": address}
        if address == LOCAL:
            # a place for each worker, also on a machine with fewer cores
            options |= {"include_dashboard": False, "num_cpus": max(workers, os.cpu_count() or 1)}
        elif ":" in address:
            _check_that_somebody_listens(address)
        # an evaluation calls nobody but the cluster
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            ray.init(configure_logging=False, log_to_driver=False, **options)
        # Ray raises bare exceptions, too
        except Exception as error:
            raise PolicyFailedError(f"cannot connect to Ray at {address}: {error}") from error

        # Ray tells of lost workers on stdout, which is for the numbers
        self._redirected = contextlib.redirect_stdout(sys.stderr)

    def __enter__(self) -> RayCluster:
        self._redirected.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        ray.shutdown()
        self._redirected.__exit__(None, None, None)

    @contextlib.contextmanager
    def serving(
        self,
        policy_config: str,
        checkpoint: str | None,
        *,
        planner: str | None = None,
        robot_file: Path | None = None,
    ) -> Iterator[ServerChoice]:
        """Serve a policy on a machine of the cluster, with a GPU of its own if there are any.

        Arguments are those of `serving`; paths are those of that machine.

        Raises:
            PolicyFailedError: no GPU is free, or the server did not become ready.
        """
        gpus = 1 if ray.cluster_resources().get("GPU", 0.0) else 0
        if ray.available_resources().get("GPU", 0.0) < gpus:
            raise PolicyFailedError(
                "each policy is served on a GPU of its own, and none is free in the cluster: "
                "name fewer checkpoints"
            )
        actor = ray.remote(num_cpus=0, num_gpus=gpus)(_Server).remote()
        try:
            yield _get(
                actor.start.remote(policy_config, checkpoint, planner, robot_file),
                timeout=LONGEST_START,
            )
        finally:
            # a machine that is gone serves no longer
            with contextlib.suppress(PolicyFailedError):
                _get(actor.stop.remote(), timeout=60.0)
            ray.kill(actor)

    def play(
        self, choices: Sequence[PolicyChoice], jobs: Sequence[tuple[int, Trial]]
    ) -> Iterator[TrialResult]:
        """Play all jobs; results come in their order. An episode whose worker died is played again.

        Args:
            choices: the policies.
            jobs: the index of a policy, and what to try with it.

        Raises:
            PolicyFailedError: a policy cannot be asked, or workers keep dying.
        """
        from openpi_flash_training.evaluation.run import needs_pictures

        player = ray.remote(num_cpus=1, max_restarts=3, max_task_retries=3)(_Player)
        draws = needs_pictures(choices, [trial for _, trial in jobs])
        count = min(self._workers, max(len(jobs), 1))
        actors = [player.remote(list(choices), is_drawing=draws) for _ in range(count)]
        pool = ActorPool(actors)
        try:
            for policy, trial in jobs:
                pool.submit(lambda actor, job: actor.play.remote(*job), (policy, trial))
            while pool.has_next():
                with _plain_errors():
                    result = pool.get_next()
                yield result
        finally:
            for actor in actors:
                ray.kill(actor)


class _Player:
    """A worker. MuJoCo is imported once its OpenGL is chosen."""

    def __init__(self, choices: list[PolicyChoice], *, is_drawing: bool) -> None:
        from sim_robot.gl_backend import choose_gl_backend

        if is_drawing:
            os.environ["MUJOCO_GL"] = choose_gl_backend()
        from openpi_flash_training.evaluation.trial_player import TrialPlayer

        self._player = TrialPlayer(choices)

    def play(self, policy: int, trial: Trial) -> TrialResult:
        return self._player.play(policy, trial)


class _Server:
    """A policy server beside the actor, on the actor's machine and GPU."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()

    def start(
        self, config: str, checkpoint: str | None, planner: str | None, robot_file: Path | None
    ) -> ServerChoice:
        address = ray.util.get_node_ip_address()
        return self._stack.enter_context(
            serving(
                config,
                checkpoint,
                planner=planner,
                robot_file=robot_file,
                ready_s=LONGEST_START,
                host=address,
                key=secrets.token_hex(24),
            )
        )

    def stop(self) -> None:
        self._stack.close()


def _check_that_somebody_listens(address: str) -> None:
    """Ray itself waits for minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5.0).close()
    except (OSError, ValueError) as error:
        raise PolicyFailedError(f"cannot connect to Ray at {address}: {error}") from error


def _get(reference: ray.ObjectRef[Any], timeout: float) -> Any:
    with _plain_errors():
        return ray.get(reference, timeout=timeout)


@contextlib.contextmanager
def _plain_errors() -> Iterator[None]:
    """Errors of workers as they were raised there; Ray's own as failures of the policy."""
    try:
        yield
    except RayTaskError as error:
        raise error.cause from None
    except RayError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        text = lines[0] if lines else "no reason given"
        raise PolicyFailedError(f"{type(error).__name__}: {text}") from None
