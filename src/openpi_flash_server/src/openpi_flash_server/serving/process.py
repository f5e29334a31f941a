"""`openpi-flash serve` as a process: signals, exit codes, the ready line and one error line."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType
from typing import NoReturn

from openpi_flash_models.errors import InferenceConfigError
from openpi_flash_server.config.server_config import ServerConfig
from openpi_flash_server.logs import log_output
from openpi_flash_server.logs.events import EventLogger
from openpi_flash_server.logs.log_output import LogOutput
from openpi_flash_server.serving.endpoint import StartError
from openpi_flash_server.serving.service import Service
from openpi_flash_server.serving.stop_signals import Meaning, StopSignals
from openpi_flash_server.serving.wake import Wake

log = EventLogger(__name__)

EXIT_FAILED = 1


class _Stop:
    """Wakes the main thread for a signal or for the end of loading."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self.woken = Wake()
        self._signals = StopSignals()

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        del frame
        # Ray's own handler, which ran before this one, would abort the process after 3 s
        signal.alarm(0)
        meaning = self._signals.received(time.monotonic())
        if meaning is Meaning.END_NOW:
            # without the log: the interrupted code may hold its lock
            os._exit(128 + number)
        if meaning is Meaning.DRAIN:
            self.signal = number
            self.woken.wake()


def serve(config: ServerConfig, output: LogOutput) -> int:
    """Serves until SIGTERM or SIGINT; returns the exit code.

    A second signal ends the process at once, unless it comes within half a second of the first.

    Args:
        config: what to serve.
        output: takes the ready line, and is flushed at the end.
    """
    stop = _Stop()
    stop.woken.heed_signals()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop.on_signal)
    try:
        code, is_orderly = _serve(config, output, stop)
    finally:
        flushed = output.flush(timeout=_LAST_WORDS)
    if not (is_orderly and flushed):
        _end_now(code)
    return code


def _serve(config: ServerConfig, output: LogOutput, stop: _Stop) -> tuple[int, bool]:
    """The exit code, and whether every thread in native code has ended."""
    try:
        service = Service(config)
    except StartError as error:
        return _fail(str(error)), True
    failures: list[BaseException] = []

    def load() -> None:
        try:
            service.load()
        except BaseException as error:
            failures.append(error)
        finally:
            stop.woken.wake()

    # on a thread, so that the main thread handles signals while a model compiles
    loading = threading.Thread(target=load, name="loading", daemon=True)
    loading.start()
    stop.woken.wait()
    if stop.signal is None:
        loading.join()
        if failures:
            service.close(grace=0)
            return _fail_with(failures[0]), True
        output.put(service.ready_line)
        while stop.signal is None:
            stop.woken.wait(TRAFFIC_EVERY)
            if stop.signal is None:
                service.log_traffic()
    assert stop.signal is not None
    log.info("stopping", signal=signal.Signals(stop.signal).name)
    finished = service.close()
    log.info("stopped")
    if loading.is_alive() or service.is_loading:
        # a model that still loads or compiles cannot be interrupted: do not wait for it
        return 0, False
    if not finished:
        log.warning("the running request did not end in time and was given up")
        return EXIT_FAILED, False
    return 0, True


def _fail_with(error: BaseException) -> int:
    if isinstance(error, StartError | InferenceConfigError):
        return _fail(str(error))
    log.error("loading failed", exception=error)
    return _fail(f"loading failed, the log says where: {type(error).__name__}: {error}")


def _fail(message: str) -> int:
    writer = log_output.stderr_writer()
    writer.put(f"error: {message}")
    writer.flush(timeout=_LAST_WORDS)
    return EXIT_FAILED


def _end_now(code: int) -> NoReturn:
    """Ends the process at once while threads run native code: an orderly exit could crash.

    Also if stdout is blocked: an orderly exit would wait for it.
    """
    os._exit(code)


TRAFFIC_EVERY = 60.0
"""s between two lines about a slot's requests."""

_LAST_WORDS = 1.0
"""s for the last lines, if nobody reads stdout or stderr."""
