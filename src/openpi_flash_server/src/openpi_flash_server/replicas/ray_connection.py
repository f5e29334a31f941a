"""The process's one connection to Ray, which the engines of several checkpoints share."""

from __future__ import annotations

import os
import threading
from concurrent.futures import Future
from typing import Any

import ray

from openpi_flash_server.replicas.engine import ReplicaLost

OBJECT_STORE_BYTES = 512 * 2**20
"""Of a Ray that is started here: it holds the observations that are under way, a few megabytes for
each place, and Ray's own default is a third of the machine's memory."""


class RayConnection:
    """Connects with the first user, and disconnects with the last.

    A connection that somebody else has made in this process is used, and left as it is.
    """

    def __init__(self) -> None:
        self._users = 0
        self._kept: _Kept | None = None
        self._lock = threading.Lock()

    def acquire(self, address: str | None) -> None:
        """Connects to the cluster, or starts a Ray of this machine.

        Args:
            address: of the cluster; None: `RAY_ADDRESS`, else a Ray that ends with the last user.

        Raises:
            ReplicaLost: there is no such cluster, or Ray does not start.
        """
        with self._lock:
            if not ray.is_initialized():
                self._kept = _Kept(address or os.environ.get("RAY_ADDRESS"))
            self._users += 1

    def release(self) -> None:
        """Ends one use."""
        with self._lock:
            self._users -= 1
            if self._users == 0 and self._kept is not None:
                self._kept.end()
                self._kept = None


class _Kept:
    """A connection that a thread of its own makes, holds and ends.

    Linux ends the processes of a Ray that is started here with the thread that has started them,
    and a server loads on a thread that ends when all is loaded.
    """

    def __init__(self, address: str | None) -> None:
        self._made: Future[None] = Future()
        self._ended = threading.Event()
        self._thread = threading.Thread(
            target=self._hold, args=(address,), name="ray-connection", daemon=True
        )
        self._thread.start()
        self._made.result()

    def end(self) -> None:
        """Disconnects, and ends a Ray that was started here."""
        self._ended.set()
        self._thread.join()

    def _hold(self, address: str | None) -> None:
        try:
            _connect(address)
        except ReplicaLost as error:
            self._made.set_exception(error)
            return
        self._made.set_result(None)
        self._ended.wait()
        ray.shutdown()


def _connect(address: str | None) -> None:
    # a server calls nobody but its clients
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray gives its workers the processor last, and a robot waits for these
    os.environ.setdefault("RAY_worker_niceness", "0")
    options: dict[str, Any] = {"address": address}
    if address is None:
        options = {"include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
    try:
        ray.init(configure_logging=False, log_to_driver=False, **options)
    # Ray raises bare exceptions, too
    except Exception as error:
        where = address or "this machine"
        raise ReplicaLost(f"cannot connect to Ray at {where}: {error}") from error


CONNECTION = RayConnection()
