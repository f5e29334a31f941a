"""openpi-flash on Modal: WebSocket that scales to zero, a TCP tunnel, a volume for checkpoints.

`docs/modal.md` says how to use it, and what has not been tried.

    modal run infra/modal/app.py::prepare
    modal deploy infra/modal/app.py
"""

from __future__ import annotations

import os
import subprocess
import time
import urllib.error
import urllib.request

import modal

IMAGE = os.environ.get("OPENPI_FLASH_IMAGE", "ghcr.io/openpi-flash/openpi-flash-server:0.1.0")
GPU = os.environ.get("OPENPI_FLASH_GPU", "L40S")
REGION = os.environ.get("OPENPI_FLASH_REGION", "ap")
CONFIG_NAME = os.environ.get("OPENPI_FLASH_CONFIG_NAME", "pi05_aloha")
CHECKPOINT = os.environ.get("OPENPI_FLASH_CHECKPOINT", "/data/models/pi05_base_openpi")
PROMPT = os.environ.get("OPENPI_FLASH_PROMPT", "")

PORT = 8000
START_TIMEOUT = 30 * 60
"""s for the first start, which downloads and compiles."""
IDLE = 300
"""s without a connection after which the container ends."""

app = modal.App("openpi-flash")
data = modal.Volume.from_name("openpi-flash-data", create_if_missing=True)
# OPENPI_API_KEY: what robots send
secret = modal.Secret.from_name("openpi-flash")
image = (
    modal.Image.from_registry(IMAGE)
    .entrypoint([])
    .env(
        {
            "OPENPI_FLASH_CONFIG_NAME": CONFIG_NAME,
            "OPENPI_FLASH_CHECKPOINT": CHECKPOINT,
            "OPENPI_FLASH_PROMPT": PROMPT,
        }
    )
)


def serve_command(config_name: str, checkpoint: str, prompt: str) -> list[str]:
    """The command of the server: one policy, by its name."""
    command = ["openpi-flash", "serve", "--host", "0.0.0.0", "--port", str(PORT)]
    command += ["--policy-config", config_name]
    command += ["--policy-dir", checkpoint] if checkpoint else []
    return [*command, "--default-prompt", prompt] if prompt else command


def wait_until_ready(process: subprocess.Popen[bytes], url: str, timeout: float) -> None:
    """Return once `url` answers 200; RuntimeError if the server ends or is not ready in time."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"openpi-flash ended with status {process.returncode}: see its log")
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(1)
    raise RuntimeError(f"{url} is not ready after {timeout:.0f} s: see the server's log")


def start() -> subprocess.Popen[bytes]:
    """Start the server of this container and wait until it is ready."""
    process = subprocess.Popen(serve_command(CONFIG_NAME, CHECKPOINT, PROMPT))
    wait_until_ready(process, f"http://127.0.0.1:{PORT}/healthz", START_TIMEOUT)
    # what was compiled is there for the next container
    data.commit()
    return process


@app.function(image=image, volumes={"/data": data}, timeout=2 * 60 * 60)
def prepare(model_id: str = "lerobot/pi05_base", output_dir: str = CHECKPOINT) -> None:
    """Make the checkpoint in the volume, once; no GPU."""
    command = ["openpi-flash", "prepare-checkpoint", "--model-id", model_id]
    subprocess.run([*command, "--output-dir", output_dir], check=True)
    data.commit()


@app.function(image=image, volumes={"/data": data}, timeout=2 * 60 * 60, memory=64 * 1024)
def convert(source: str, output_dir: str) -> None:
    """Convert a JAX checkpoint in the volume, or at a URL, to PyTorch; no GPU."""
    subprocess.run(["openpi-flash", "convert-checkpoint", source, output_dir], check=True)
    data.commit()


@app.function(
    image=image,
    gpu=GPU,
    region=REGION,
    volumes={"/data": data},
    secrets=[secret],
    scaledown_window=IDLE,
    max_containers=1,
    timeout=24 * 60 * 60,
)
@modal.concurrent(max_inputs=32)
@modal.web_server(PORT, startup_timeout=START_TIMEOUT)
def websocket() -> None:
    """Robots connect to the address that `modal deploy` prints, with wss:// in place of https://."""
    start()


@app.function(
    image=image,
    gpu=GPU,
    region=REGION,
    volumes={"/data": data},
    secrets=[secret],
    timeout=24 * 60 * 60,
)
def tunnel() -> None:
    """WebSocket through a TCP tunnel, without Modal's proxy. The tunnel itself is not encrypted."""
    process = start()
    with modal.forward(PORT, unencrypted=True) as forwarded:
        host, port = forwarded.tcp_socket
        found = modal.Dict.from_name("openpi-flash-tunnel", create_if_missing=True)
        found.put("address", (host, port))
        found.put("url", f"ws://{host}:{port}")
        process.wait()
