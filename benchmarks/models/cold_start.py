"""How long a policy takes until it can answer: first start, and a start with compiled programs kept.

Two processes, one after the other, load and warm up the same checkpoint. They share a directory of
compiled programs (``OPENPI_FLASH_COMPILE_CACHE``) that is empty at first, so that the second one
should compile nothing.

usage: python benchmarks/models/cold_start.py CONFIG CHECKPOINT [--robot-file FILE] [--dtype DTYPE] [--cache DIR]
"""  # noqa: E501

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openpi_flash_models.jax_models.compile_cache import VARIABLE

HIT, MISS = "/jax/compilation_cache/cache_hits", "/jax/compilation_cache/cache_misses"


@dataclass(frozen=True)
class Start:
    """One process.

    Attributes:
        imports: seconds for Python's modules.
        load: seconds until the weights are on the device.
        warm_up: seconds until every program has run once.
        compiled: programs that were compiled.
        read: programs that were read from the cache.
    """

    imports: float
    load: float
    warm_up: float
    compiled: int
    read: int


def main() -> None:
    """Start twice, and print both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config")
    parser.add_argument("checkpoint")
    parser.add_argument("--robot-file", type=Path)
    parser.add_argument("--dtype")
    parser.add_argument("--cache", type=Path, help="kept; default: a directory that is removed")
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.once:
        start = measure(
            arguments.config, arguments.checkpoint, arguments.robot_file, arguments.dtype
        )
        print(json.dumps(start.__dict__))
        return
    with tempfile.TemporaryDirectory() as scratch:
        cache = arguments.cache or Path(scratch)
        for name in ("first start", "with kept programs"):
            start = in_a_process(cache, sys.argv[1:])
            print(
                f"{name}: imports {start.imports:.1f} s, load {start.load:.1f} s, warm-up "
                f"{start.warm_up:.1f} s; {start.compiled} programs compiled, {start.read} read"
            )
        size = sum(file.stat().st_size for file in cache.rglob("*") if file.is_file())
        print(f"kept: {size / 1e6:.1f} MB")


def in_a_process(cache: Path, arguments: list[str]) -> Start:
    """A start in a process of its own, with this directory of compiled programs."""
    done = subprocess.run(
        [sys.executable, __file__, *arguments, "--once"],
        env=os.environ | {VARIABLE: str(cache)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return Start(**json.loads(done.stdout.splitlines()[-1]))


def measure(config: str, checkpoint: str, robot_file: Path | None, dtype: str | None) -> Start:
    """A start in this process."""
    begin = time.perf_counter()
    import jax

    from openpi_flash_models.config.robot_file import add_robot_file
    from openpi_flash_models.jax_models.compile_cache import use_compile_cache
    from openpi_flash_models.load import load_policy

    use_compile_cache()
    # all programs: by default those that compile in a moment are not kept
    settings: Any = jax.config
    settings.update("jax_persistent_cache_min_compile_time_secs", 0)
    counts = {HIT: 0, MISS: 0}

    def count(event: str, **_: object) -> None:
        if event in counts:
            counts[event] += 1

    jax.monitoring.register_event_listener(count)
    if robot_file is not None:
        add_robot_file(robot_file)
    imported = time.perf_counter()
    policy = load_policy(config, checkpoint, framework="jax", dtype=dtype)
    loaded = time.perf_counter()
    policy.warm_up()
    warm = time.perf_counter()
    return Start(imported - begin, loaded - imported, warm - loaded, counts[MISS], counts[HIT])


if __name__ == "__main__":
    main()
