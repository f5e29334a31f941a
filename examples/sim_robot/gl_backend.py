"""Which OpenGL draws without a screen: EGL, else OSMesa. Found out by trying, in a child process.

MuJoCo and PyOpenGL bind to one backend for the life of a process, so a failed try cannot be
followed by another in the same one.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping

BACKENDS = ("egl", "osmesa")

PACKAGES_HINT = (
    "on Debian or Ubuntu: sudo apt-get install libegl1 libegl-mesa0 libgl1-mesa-dri libopengl0"
    " (or libosmesa6 for MUJOCO_GL=osmesa)"
)


class RenderingUnavailableError(RuntimeError):
    """No OpenGL here draws without a screen; the message names what to install."""


def choose_gl_backend(environ: Mapping[str, str] | None = None) -> str:
    """Return the backend to put into MUJOCO_GL before anything is drawn.

    Raises:
      RenderingUnavailableError: none works, or the one that MUJOCO_GL asks for does not.
    """
    environ = os.environ if environ is None else environ
    asked = environ.get("MUJOCO_GL", "").strip().lower()
    if asked and asked not in BACKENDS:
        raise RenderingUnavailableError(
            f"MUJOCO_GL={asked} cannot draw without a screen: use one of {', '.join(BACKENDS)}"
        )
    candidates = (asked,) if asked else BACKENDS
    failures = []
    for backend in candidates:
        failure = _try_backend(backend, environ)
        if failure is None:
            return backend
        failures.append(f"{backend}: {failure}")
    raise RenderingUnavailableError(
        f"the cameras cannot be drawn without a screen ({'; '.join(failures)}). {PACKAGES_HINT}"
    )


def _try_backend(backend: str, environ: Mapping[str, str]) -> str | None:
    """Return why a backend does not work, or None if it does."""
    program = f"from mujoco.{backend} import GLContext; GLContext(8, 8).make_current()"
    child_environ = {**environ, "MUJOCO_GL": backend}
    child_environ.pop("PYOPENGL_PLATFORM", None)
    try:
        result = subprocess.run(
            [sys.executable, "-c", program],
            env=child_environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "did not answer within 60 s"
    if result.returncode == 0:
        return None
    lines = result.stderr.strip().splitlines()
    return lines[-1] if lines else f"exit code {result.returncode}"
