"""protocol.py, controllers_text.py: what goes through the pipe comes out the same."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openpi_flash_client_node.sender.controllers_text import from_text, to_text
from openpi_flash_client_node.sender.protocol import HEADER, Decoder, NoWindowError, encode
from openpi_flash_robot.play.motion import Motion
from openpi_flash_robot.settings.controllers import Controller, ControllerKind


def window(count, axes, seed=0):
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.integers(1, 10**9, count), dtype=np.int64)
    return Motion(times, rng.normal(size=(count, axes)), rng.normal(size=(count, axes)))


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(1, 6), st.integers(0, 4)), max_size=5),
    st.integers(1, 200),
)
def test_windows_come_whole_however_the_bytes_are_cut(shapes, piece):
    sent = [(i, window(count, axes, n)) for n, (i, count, axes) in enumerate(shapes)]
    stream = b"".join(encode(i, motion) for i, motion in sent)
    decoder, heard = Decoder(), []
    for begin in range(0, len(stream), piece):
        heard += decoder.feed(stream[begin : begin + piece])
    assert [i for i, _ in heard] == [i for i, _ in sent]
    for (_, got), (_, wanted) in zip(heard, sent, strict=True):
        np.testing.assert_array_equal(got.times_ns, wanted.times_ns)
        np.testing.assert_array_equal(got.positions, wanted.positions)
        np.testing.assert_array_equal(got.velocities, wanted.velocities)


@pytest.mark.parametrize("head", [(0, 0, 1), (0, 2**31, 1), (0, 1, 2**31)])
def test_bytes_that_are_no_window_are_refused_before_anything_is_allocated(head):
    with pytest.raises(NoWindowError):
        list(Decoder().feed(HEADER.pack(*head)))


def test_controllers_come_out_as_they_went_in():
    controllers = (
        Controller("base", "/cmd_vel", ("x", "r"), (0, 1), ControllerKind.BASE, is_stamped=False),
        Controller("eef", "/t", tuple("abcdef"), tuple(range(6)), ControllerKind.TWIST, "tool0"),
    )
    assert from_text(to_text(controllers)) == controllers
