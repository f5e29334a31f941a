"""Makes the recorder of a configuration."""

from __future__ import annotations

import time

from openpi_flash_server.config.files import user_path
from openpi_flash_server.config.server_config import ServerConfig
from openpi_flash_server.logs.events import EventLogger
from openpi_flash_server.recording.folder import DiskFullError, Folder
from openpi_flash_server.recording.recorder import Kept, Recorder
from openpi_flash_server.serving.endpoint import StartError

log = EventLogger(__name__)


def make_recorder(config: ServerConfig) -> Recorder | None:
    """The recorder, if the configuration wants one.

    Raises:
        StartError: the directory cannot be written to.
    """
    settings = config.recording
    if settings.directory is None:
        return None
    folder = Folder(
        user_path(settings.directory),
        file_bytes=round(settings.file_mb * 1e6),
        max_bytes=round(settings.max_gb * 1e9),
        min_free_bytes=round(settings.min_free_gb * 1e9),
        wall_clock_at_zero=time.time_ns() - time.monotonic_ns(),
    )
    try:
        folder.check_writable()
    except DiskFullError:
        # the recorder says so, and tries again
        pass
    except OSError as error:
        what = config.origin("recording", "directory") or "recording.directory"
        reason = (error.strerror or str(error)).lower()
        raise StartError(f"{what}: {settings.directory}: {reason}") from error
    log.info("recording", directory=folder.directory, requests=settings.requests)
    return Recorder(
        folder,
        Kept(
            requests=settings.requests,
            black_box_s=settings.black_box_s,
            black_box_bytes=round(settings.black_box_mb * 1e6),
        ),
    )
