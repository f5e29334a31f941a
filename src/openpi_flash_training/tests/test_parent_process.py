"""parent_process.py: no worker is left of a command that was killed."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

PROGRAM = """
import multiprocessing, os, time
from concurrent.futures import ProcessPoolExecutor
from openpi_flash_training.parent_process import end_with_parent

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=end_with_parent) as pool:
        print(pool.submit(os.getpid).result(), flush=True)
        # a worker that waits for what nobody will do
        pool.submit(time.sleep, 600)
        time.sleep(600)
"""


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.skipif(sys.platform != "linux", reason="of the robots' system")
def test_a_worker_ends_when_its_command_is_killed(tmp_path):
    program = tmp_path / "pool.py"
    program.write_text(PROGRAM)
    with subprocess.Popen([sys.executable, program], stdout=subprocess.PIPE, text=True) as command:
        worker = int(command.stdout.readline())
        assert is_alive(worker)
        command.kill()
    until = time.monotonic() + 30
    while is_alive(worker):
        assert time.monotonic() < until, "the worker goes on"
        time.sleep(0.05)
