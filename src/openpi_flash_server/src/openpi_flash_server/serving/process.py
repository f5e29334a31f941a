"""`openpi-flash serve`: a `Service` as a process, with signals, exit codes and one error line."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType
from typing import NoReturn

from openpi_flash_models.errors import InferenceConfigError
from openpi_flash_server.config.server_config import ServerConfig
from openpi_flash_server.logs import EventLogger
from openpi_flash_server.serving.endpoint import StartError
from openpi_flash_server.serving.service import Service

log = EventLogger(__name__)

EXIT_FAILED = 1


class _Stop:
    """Wakes the main thread for a signal or for the end of loading."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self.woken = threading.Event()

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.signal is not None:
            _end_now(128 + number)
        self.signal = number
        self.woken.set()


def serve(config: ServerConfig) -> int:
    """Serves until SIGTERM or SIGINT; returns the exit code. A second signal ends it at once."""
    stop = _Stop()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop.on_signal)
    try:
        service = Service(config)
    except StartError as error:
        return _fail(str(error))
    failures: list[BaseException] = []

    def load() -> None:
        try:
            service.load()
        except BaseException as error:
            failures.append(error)
        finally:
            stop.woken.set()

    # beside the main thread, so that a signal is heard while a model compiles
    loading = threading.Thread(target=load, name="loading", daemon=True)
    loading.start()
    stop.woken.wait()
    if stop.signal is None:
        loading.join()
        if failures:
            service.close(grace=0)
            return _fail_with(failures[0])
        print(service.ready_line, flush=True)  # noqa: T201 - exactly this line, for people and scripts
        stop.woken.clear()
        while stop.signal is None:
            stop.woken.wait()
            stop.woken.clear()
    assert stop.signal is not None
    log.info("stopping", signal=signal.Signals(stop.signal).name)
    finished = service.close()
    log.info("stopped")
    if loading.is_alive():
        # a model that still loads or compiles cannot be interrupted, and nobody waits for it
        _end_now(0)
    if not finished:
        log.warning("the running request did not end in time and was given up")
        _end_now(EXIT_FAILED)
    return 0


def _fail_with(error: BaseException) -> int:
    if isinstance(error, StartError | InferenceConfigError):
        return _fail(str(error))
    log.error("loading failed", exception=error)
    return _fail(f"loading failed, the log says where: {type(error).__name__}: {error}")


def _fail(message: str) -> int:
    print(f"error: {message}", file=sys.stderr, flush=True)  # noqa: T201
    return EXIT_FAILED


def _end_now(code: int) -> NoReturn:
    """Ends the process beside threads in native code, which an orderly exit could crash."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
