"""Whether this machine can draw the simulated cameras."""

from __future__ import annotations

import pytest

from sim_robot.gl_backend import RenderingUnavailableError, choose_gl_backend


def _can_draw() -> bool:
    try:
        choose_gl_backend()
    except RenderingUnavailableError:
        return False
    return True


needs_pictures = pytest.mark.skipif(not _can_draw(), reason="no OpenGL on this machine")
