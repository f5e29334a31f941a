"""Reads the facts of this machine. Every fact that cannot be had is left empty, and says so."""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import platform
import resource
import subprocess
import time
from pathlib import Path

from openpi_flash_server.doctor.machine import Gpu, Machine

PACKAGES = (
    "openpi_flash_server",
    "openpi_flash_models",
    "openpi_flash_training",
    "flash_transport",
    "numpy",
    "jax",
    "jaxlib",
    "jax-cuda13-plugin",
    "jax-cuda12-plugin",
    "torch",
)


def read_machine() -> Machine:
    """The facts of this machine, now. Takes no memory of a GPU."""
    gpus, problem = _gpus()
    return Machine(
        system=f"{_distribution()}, Linux {platform.release()}, {platform.machine()}",
        user=os.getuid(),
        python=platform.python_version(),
        versions={name: _version(name) for name in PACKAGES},
        has_compiled_transport=_has_compiled_transport(),
        gpus=gpus,
        gpu_problem=problem,
        memory_gb=_memory_gb(),
        kernel={
            name: int(text)
            for name in ("net.core.rmem_max", "net.core.wmem_max")
            if (text := _text(f"/proc/sys/{name.replace('.', '/')}").strip()).isdigit()
        },
        udp_receive_errors=read_udp_errors(_text("/proc/net/snmp")),
        open_files=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        clock=_clock(),
        now=time.time(),
    )


def read_udp_errors(snmp: str) -> int | None:
    """RcvbufErrors of /proc/net/snmp; None if it is not there."""
    rows = [line.split()[1:] for line in snmp.splitlines() if line.startswith("Udp:")]
    if len(rows) != 2 or "RcvbufErrors" not in rows[0]:
        return None
    return int(rows[1][rows[0].index("RcvbufErrors")])


def read_gpus(table: str) -> tuple[Gpu, ...]:
    """What nvidia-smi printed for `QUERY`, a line a GPU."""
    gpus = []
    for line in table.strip().splitlines():
        name, driver, memory, used = (cell.strip() for cell in line.split(",", 3))
        gpus.append(Gpu(name, driver, _whole(memory), _whole(used)))
    return tuple(gpus)


def _gpus() -> tuple[tuple[Gpu, ...], str]:
    command = ["nvidia-smi", f"--query-gpu={QUERY}", "--format=csv,noheader,nounits"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except FileNotFoundError:
        return (), "there is no nvidia-smi"
    except (OSError, subprocess.TimeoutExpired) as error:
        return (), f"nvidia-smi: {error}"
    if result.returncode != 0:
        said = (result.stderr or result.stdout).strip().splitlines()
        return (), f"nvidia-smi: {said[0] if said else f'exit code {result.returncode}'}"
    try:
        return read_gpus(result.stdout), ""
    except ValueError:
        return (), f"nvidia-smi printed {result.stdout.strip()!r:.200}"


def _whole(text: str) -> int:
    # [N/A] where GPU and computer share their memory
    return int(text) if text.isdigit() else 0


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        return "an unknown distribution"


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _has_compiled_transport() -> bool:
    try:
        from flash_transport import implementation
    except ImportError:
        return False
    return implementation == "native"


def _memory_gb() -> tuple[float, float]:
    """All of the computer's memory and what is available, within the limit of a container."""
    rows = dict(line.split(":", 1) for line in _text("/proc/meminfo").splitlines() if ":" in line)
    total, available = (
        int(rows.get(name, "0").split()[0]) * 1024 for name in ("MemTotal", "MemAvailable")
    )
    limit = _text("/sys/fs/cgroup/memory.max").strip()
    used = _text("/sys/fs/cgroup/memory.current").strip()
    if limit.isdigit() and used.isdigit():
        total = min(total, int(limit))
        available = min(available, max(0, int(limit) - int(used)))
    return total / 1e9, available / 1e9


def _clock() -> str:
    """Whether the kernel says that a daemon keeps the clock right (adjtimex(2))."""
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.create_string_buffer(256))
    except (OSError, AttributeError):
        return "unknown"
    if state < 0:
        return "unknown"
    return "not synchronized" if state == _TIME_ERROR else "synchronized"


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


QUERY = "name,driver_version,memory.total,memory.used"
_TIME_ERROR = 5
"""TIME_ERROR of adjtimex(2): the clock is not synchronized."""
