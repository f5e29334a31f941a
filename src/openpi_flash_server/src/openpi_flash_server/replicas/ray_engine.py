"""Replicas as actors of Ray, on the GPUs of this machine or of a cluster (docs/scaling.md)."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayError

from openpi_flash_models.policy.policy_protocol import ActionPolicy, BatchRequest
from openpi_flash_server.replicas.engine import (
    Answers,
    Description,
    LoadFailed,
    ReplicaLost,
)
from openpi_flash_server.replicas.policy_process import NotLoaded, PolicyProcess
from openpi_flash_server.replicas.ray_connection import CONNECTION

LONGEST_GOODBYE = 10.0
"""s that a replica's process may take to end in order."""


class RayEngine:
    """Starts replicas in a cluster; connects to it, or starts one of this machine.

    Args:
        load: loads the policy in its process, not warm yet; goes there by pickle.
        address: of the cluster; None: `RAY_ADDRESS`, else a Ray of this machine and this process.
        gpus: that each replica needs, 0.5 for two on one; None: one where the cluster has any.

    Raises:
        ReplicaLost: there is no such cluster, or its GPUs are taken.
    """

    def __init__(
        self, load: Callable[[], ActionPolicy], *, address: str | None, gpus: float | None
    ) -> None:
        self._load = load
        CONNECTION.acquire(address)
        total = ray.cluster_resources().get("GPU", 0.0)
        if gpus is None:
            gpus = 1.0 if total else 0.0
        free = ray.available_resources().get("GPU", 0.0)
        # a cluster without any may still get some
        if free < gpus <= total:
            CONNECTION.release()
            raise ReplicaLost(
                f"a replica needs {gpus:g} GPUs, and {free:g} of {total:g} are free; a reload with "
                "reload_memory 'after' frees those of the checkpoint before it"
            )
        self._actor = ray.remote(
            # the front's pool starts them anew, and gives their calls to others
            max_restarts=0,
            max_task_retries=0,
            num_cpus=0,
            num_gpus=gpus,
            scheduling_strategy="SPREAD",
            # the policy on one thread; another keeps watch over the process
            concurrency_groups={"policy": 1, "life": 1},
        )(_make_actor_class())
        self._events = _Events()

    def start(
        self, ready: Callable[[Description], None], lost: Callable[[ReplicaLost], None]
    ) -> RayReplica:
        """Starts an actor, and loads the policy in it."""
        actor = self._actor.remote()

        def has_loaded(outcome: Description | NotLoaded | RayError) -> None:
            match outcome:
                case Description():
                    ready(outcome)
                case NotLoaded(cause):
                    lost(LoadFailed(cause))
                case _:
                    lost(_loss(outcome))

        self._events.tell(actor.load.remote(self._load), has_loaded)
        # ends with the process, at once
        self._events.tell(actor.live.remote(), lambda outcome: lost(_loss(outcome)))
        return RayReplica(actor)

    def close(self) -> None:
        """Leaves the cluster, or ends the Ray that was started here, if nobody else uses it."""
        self._events.close()
        CONNECTION.release()


class RayReplica:
    """An actor. An observation goes to it by the object store: one copy in, none out."""

    def __init__(self, actor: ActorHandle[Any]) -> None:
        self._actor = actor

    def call(self, requests: Sequence[BatchRequest]) -> Answers:
        """Answers `requests`; blocks.

        Raises:
            ReplicaLost: the process has ended.
        """
        try:
            return ray.get(self._actor.infer.remote(list(requests)))
        except RayError as error:
            raise _loss(error) from None

    def reset(self) -> None:
        """Starts a new episode of the policy."""
        self._actor.reset.remote()

    def stop(self) -> None:
        """Ends the process by Ray's own way, which runs what a process runs at its exit."""
        self._actor.__ray_terminate__.remote()
        timer = threading.Timer(LONGEST_GOODBYE, self.kill)
        timer.daemon = True
        timer.start()

    def kill(self) -> None:
        """Ends the process, whatever it runs."""
        # a cluster that is gone has no process to end
        with contextlib.suppress(RayError):
            ray.kill(self._actor)


class _Events:
    """Tells what becomes of remote calls, one at a time: Ray's own threads must not be held up."""

    def __init__(self) -> None:
        self._line: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._tell_all, name="ray-events", daemon=True)
        self._thread.start()

    def tell(self, reference: ray.ObjectRef[Any], told: Callable[[Any], None]) -> None:
        """Calls `told` with the value of `reference`, or with Ray's error in its place."""

        def ended(future: Future[Any]) -> None:
            error = future.exception()
            self._line.put(lambda: told(future.result() if error is None else error))

        reference.future().add_done_callback(ended)

    def close(self) -> None:
        self._line.put(None)

    def _tell_all(self) -> None:
        while (event := self._line.get()) is not None:
            event()
            # it holds answers
            del event


def _make_actor_class() -> type:
    class Actor(PolicyProcess):
        """A policy on one thread; `live` on another ends when the process does."""

        @ray.method(concurrency_group="policy")
        def load(self, load: Callable[[], ActionPolicy]) -> Description | NotLoaded:
            return super().load(load)

        @ray.method(concurrency_group="policy")
        def infer(self, requests: Sequence[BatchRequest]) -> Answers:
            return super().infer(requests)

        @ray.method(concurrency_group="policy")
        def reset(self) -> None:
            super().reset()

        @ray.method(concurrency_group="life")
        def live(self) -> None:
            threading.Event().wait()

    return Actor


def _loss(error: object) -> ReplicaLost:
    """Why a process has ended, on one line; Ray says it on many."""
    text = str(getattr(error, "error_msg", None) or error).strip()
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return ReplicaLost(f"{type(error).__name__}: {lines[0] if lines else 'no reason given'}")
