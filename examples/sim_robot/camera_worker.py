"""A thread that draws the newest snapshot, so that a slow picture never delays the physics."""

from __future__ import annotations

import threading
from collections.abc import Callable

import mujoco

from sim_robot.cameras import Cameras, Image
from sim_robot.plant import Snapshot


class CameraWorker:
    """Draws what it is given and hands the pictures to `publish`, in its own thread.

    A snapshot that arrives while the one before is still being drawn replaces any that waits.
    """

    def __init__(
        self, model: mujoco.MjModel, publish: Callable[[float, dict[str, Image]], None]
    ) -> None:
        self._model = model
        self._publish = publish
        self._changed = threading.Condition()
        self._waiting: Snapshot | None = None
        self._stopping = False
        self._ready = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="cameras", daemon=True)

    def start(self) -> None:
        """Open the cameras.

        Raises:
          RenderingUnavailableError: there is no OpenGL to draw with.
        """
        self._thread.start()
        self._ready.wait()
        self.check()

    def check(self) -> None:
        """Raise what stopped the thread, if anything did."""
        if self._failure is not None:
            raise self._failure

    def draw(self, snapshot: Snapshot) -> None:
        """Have a snapshot drawn soon."""
        with self._changed:
            self._waiting = snapshot
            self._changed.notify()

    def stop(self) -> None:
        """End the thread and close the cameras."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        try:
            with Cameras(self._model) as cameras:
                self._ready.set()
                while (snapshot := self._next()) is not None:
                    self._publish(snapshot.time, cameras.render(snapshot))
        except Exception as error:  # raised again in the owner's thread by check()
            self._failure = error
        finally:
            self._ready.set()

    def _next(self) -> Snapshot | None:
        with self._changed:
            self._changed.wait_for(lambda: self._stopping or self._waiting is not None)
            snapshot, self._waiting = self._waiting, None
            return None if self._stopping else snapshot
