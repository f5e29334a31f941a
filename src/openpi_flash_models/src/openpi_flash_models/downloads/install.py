"""Keeps downloads in the cache; each appears there complete or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TextIO

from openpi_flash_models.downloads.hub import fetch_from_hub, list_hub, parse_hub_url
from openpi_flash_models.downloads.listing import RemoteFile, list_files
from openpi_flash_models.downloads.location import is_remote, parse_location
from openpi_flash_models.downloads.progress import Progress, size
from openpi_flash_models.downloads.transfer import PART, CancelledError, transfer
from openpi_flash_models.errors import DownloadError
from openpi_flash_models.files import expand_home

DATA_HOME = "OPENPI_DATA_HOME"
MANIFEST = ".openpi-flash-download.json"
"""In a downloaded directory: its URL, and the versions of its files."""
_PARALLEL = 8


def cache_root() -> Path:
    """Openpi's cache: ``OPENPI_DATA_HOME``, else ``~/.cache/openpi``.

    Raises:
        DownloadError: there is no home directory, and ``OPENPI_DATA_HOME`` names no other place.
    """
    place = os.environ.get(DATA_HOME) or "~/.cache/openpi"
    return expand_home(place, instead=f"set {DATA_HOME} to a directory for downloads")


def cached(url: str) -> Path:
    """Where a URL is kept, whether it is there yet or not.

    Raises:
        DownloadError: it is no URL that can be fetched.
    """
    return cache_root() / parse_location(url).cache_path


def list_names(url: str) -> list[str]:
    """Names of the files that a URL names, relative to it, without fetching them.

    Returns:
        The names, with slashes; one empty name is a file itself.

    Raises:
        DownloadError: it names nothing, or the server cannot be reached.
    """
    if parse_location(url).scheme == "hf":
        return list_hub(parse_hub_url(url))
    return [file.name for file in list_files(url)]


def fetch(location: str, *, force: bool = False, progress: TextIO | None = None) -> Path:
    """The local path of a location, which is downloaded if it is a URL and not there yet.

    Safe to call from several processes at once: one downloads, the others wait for it.

    Args:
        location: a path, or a ``gs://``, ``hf://`` or ``https://`` URL.
        force: download again what is there; it is replaced when the new one is whole.
        progress: where to draw; None is standard error.

    Raises:
        DownloadError: names what could not be fetched, and why.
    """
    if not is_remote(location):
        path = expand_home(location)
        if not path.exists():
            raise DownloadError(f"no such file or directory: {path}")
        return path
    target = cached(location)
    if target.exists() and not force:
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(target):
            if force or not target.exists():  # another process may have been faster
                _download(location, target, progress)
    except OSError as error:
        raise DownloadError(
            f"cannot write {error.filename or target}: {error.strerror or error}"
        ) from error
    return target


def _download(url: str, target: Path, stream: TextIO | None) -> None:
    partial = target.with_name(f".{target.name}.download")
    if parse_location(url).scheme == "hf":
        fetched = fetch_from_hub(parse_hub_url(url), partial)
        if fetched.is_dir():
            (fetched / MANIFEST).write_text(json.dumps({"url": url}))
        _swap_in(fetched, target)
        shutil.rmtree(partial, ignore_errors=True)
        return
    files = list_files(url)
    total = None if any(file.size is None for file in files) else sum(f.size or 0 for f in files)
    is_file = not files[0].name
    partial.mkdir(exist_ok=True)
    done = _versions_in(partial)
    missing = [file for file in files if not _is_there(file, partial, done)]
    _check_space(partial, missing, url)
    bar = Progress(target.name, total, stream)
    bar.skip(sum(file.size or 0 for file in files if file not in missing))
    try:
        _transfer_all(missing, partial, target.name, done=done, bar=bar, url=url)
    finally:
        bar.finish()
    if is_file:
        _swap_in(partial / target.name, target)
        shutil.rmtree(partial)
    else:
        wanted = {file.name for file in files} | {MANIFEST}
        for path in list(partial.rglob("*")):  # of an earlier attempt at an older version
            if path.is_file() and path.relative_to(partial).as_posix() not in wanted:
                path.unlink()
        _swap_in(partial, target)


def _transfer_all(
    files: list[RemoteFile],
    partial: Path,
    name: str,
    *,
    done: dict[str, str],
    bar: Progress,
    url: str,
) -> None:
    stop, lock = threading.Event(), threading.Lock()

    def one(file: RemoteFile) -> None:
        if stop.is_set():
            raise CancelledError
        path = partial / (file.name or name)
        path.parent.mkdir(parents=True, exist_ok=True)
        transfer(file, path, bar.add, stop, stop.wait)
        with lock:
            done[file.name] = file.version
            _write_manifest(partial, url, done)

    with ThreadPoolExecutor(_PARALLEL, "download") as pool:
        jobs = [pool.submit(one, file) for file in files]
        try:
            wait(jobs, return_when=FIRST_EXCEPTION)
        finally:
            stop.set()
    errors = [job.exception() for job in jobs]
    # the cause first, before the transfers that were cancelled because of it
    for error in sorted(filter(None, errors), key=lambda error: isinstance(error, CancelledError)):
        raise error
    _write_manifest(partial, url, done)


def _versions_in(partial: Path) -> dict[str, str]:
    try:
        versions = json.loads((partial / MANIFEST).read_text())["files"]
        return {str(name): str(version) for name, version in versions.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _write_manifest(partial: Path, url: str, versions: dict[str, str]) -> None:
    new = partial / f"{MANIFEST}.new"
    new.write_text(json.dumps({"url": url, "files": versions}, indent=1))
    new.replace(partial / MANIFEST)


def _is_there(file: RemoteFile, partial: Path, done: dict[str, str]) -> bool:
    path = partial / file.name
    known = done.get(file.name)
    if known is not None and known != file.version:
        # bytes of the older version cannot be continued
        path.with_name(path.name + PART).unlink(missing_ok=True)
        return False
    return known is not None and path.is_file() and path.stat().st_size == file.size


def _check_space(partial: Path, files: list[RemoteFile], url: str) -> None:
    needed, free = sum(file.size or 0 for file in files), shutil.disk_usage(partial).free
    if needed > free:
        raise DownloadError(
            f"{url} needs {size(needed)} on the disk of {partial.parent}, {size(free)} are free"
        )


def _swap_in(new: Path, target: Path) -> None:
    """Rename ``new`` to ``target``; an old directory is deleted only if we downloaded it."""
    if not target.is_dir():
        new.replace(target)
        return
    old = target.with_name(f".{target.name}.old")
    is_ours = (target / MANIFEST).is_file()
    if not is_ours:
        old = _free_name(target.with_name(f"{target.name}.before"))
    target.rename(old)
    new.rename(target)
    if is_ours:
        shutil.rmtree(old)


def _free_name(path: Path) -> Path:
    number = 0
    while (candidate := path.with_name(f"{path.name}{number or ''}")).exists():
        number += 1
    return candidate


@contextlib.contextmanager
def _locked(target: Path) -> Iterator[None]:
    """Hold the lock that openpi holds for the same entry."""
    path = target.with_suffix(".lock")
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
