"""The robot's cameras, drawn off screen in software.

320x240 without shadows or multisampling costs 7 to 10 ms of one core per picture on a machine
without a GPU (4x multisampling: 18 to 26 ms), so two cameras at 10 Hz take a sixth to a fifth of
a core.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from types import TracebackType

import mujoco
import numpy as np
from numpy.typing import NDArray

from sim_robot.gl_backend import PACKAGES_HINT, RenderingUnavailableError
from sim_robot.plant import Snapshot
from sim_robot.robot import CAMERAS

Image = NDArray[np.uint8]


class Cameras:
    """Draws snapshots of the physics. Make, use and close it in one thread.

    Args:
      model: the plant's model.
      names: cameras of the model.
      width: pixels, at most the model's offscreen buffer.
      height: pixels.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        names: Sequence[str] = CAMERAS,
        *,
        width: int = 320,
        height: int = 240,
    ) -> None:
        self._model = model
        self._data = mujoco.MjData(model)
        self._cameras = {name: _fixed_camera(model, name) for name in names}
        self._option = mujoco.MjvOption()
        self._perturb = mujoco.MjvPerturb()
        self._viewport = mujoco.MjrRect(0, 0, width, height)
        self._context = _open_context(width, height)
        self._renderer = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_50.value)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._renderer)
        self._scene = mujoco.MjvScene(model, maxgeom=500)
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            self._scene.flags[flag.value] = 0
        self._pixels = np.empty((height, width, 3), np.uint8)

    def render(self, snapshot: Snapshot) -> dict[str, Image]:
        """Draw one instant with every camera: uint8 RGB, [height, width, 3]."""
        self._data.qpos[:] = snapshot.qpos
        self._data.time = snapshot.time
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_camlight(self._model, self._data)
        images = {}
        for name, camera in self._cameras.items():
            mujoco.mjv_updateScene(
                self._model,
                self._data,
                self._option,
                self._perturb,
                camera,
                mujoco.mjtCatBit.mjCAT_ALL.value,
                self._scene,
            )
            mujoco.mjr_render(self._viewport, self._scene, self._renderer)
            mujoco.mjr_readPixels(self._pixels, None, self._viewport, self._renderer)
            images[name] = np.ascontiguousarray(self._pixels[::-1])  # OpenGL's rows go upwards
        return images

    def close(self) -> None:
        """Give the OpenGL context back."""
        self._renderer.free()
        self._context.free()

    def __enter__(self) -> Cameras:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _fixed_camera(model: mujoco.MjModel, name: str) -> mujoco.MjvCamera:
    camera = mujoco.MjvCamera()
    camera.type = mujoco.mjtCamera.mjCAMERA_FIXED.value
    camera.fixedcamid = model.camera(name).id
    return camera


def _open_context(width: int, height: int) -> mujoco.GLContext:
    backend = os.environ.setdefault("MUJOCO_GL", "egl")  # libmujoco reads it too
    try:
        context = importlib.import_module(f"mujoco.{backend}").GLContext(width, height)
        context.make_current()
    except Exception as error:  # PyOpenGL fails with whatever it meets when a library is missing
        raise RenderingUnavailableError(
            f"the cameras cannot be drawn with MUJOCO_GL={backend} ({error}). {PACKAGES_HINT}"
        ) from error
    return context
