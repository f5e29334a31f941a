"""What a Positronic client is told when its session is ready. Pure."""

from __future__ import annotations

from typing import Any

from openpi_flash_server.positronic.codecs import IMAGE_SIDE, ChunkTiming


def session_meta(
    *,
    host: str,
    port: int,
    config_name: str,
    checkpoint_path: str,
    checkpoint_id: str,
    timing: ChunkTiming,
) -> dict[str, Any]:
    """The `meta` of the `ready` frame.

    Clients up to 0.2.1 read `image_sizes`. Later ones refuse a session without `local_stack`: what
    to wrap around the policy on their side, here the schedule of chunks and the size of images.

    Args:
        host: where the server listens.
        port: its WebSocket port.
        config_name: the inference config.
        checkpoint_path: the directory of the experiment.
        checkpoint_id: the checkpoint that answers this session.
        timing: of the rows of a chunk.
    """
    size = {"width": IMAGE_SIDE, "height": IMAGE_SIDE}
    return {
        "type": "openpi",
        "host": host,
        "port": port,
        "config_name": config_name,
        "checkpoint_path": checkpoint_path,
        "experiment_name": checkpoint_path.rstrip("/").rpartition("/")[2],
        "checkpoint_id": checkpoint_id,
        "image_sizes": [IMAGE_SIDE, IMAGE_SIDE],
        "action_fps": timing.fps,
        "action_horizon_sec": timing.horizon_sec,
        "compress_images": False,
        "local_stack": {
            "seq": [{"name": "chunked_schedule"}, {"name": "restrict_image_size", "args": size}]
        },
    }
