"""``hf://ORG/REPO[@REVISION][/PATH]``: files of the Hugging Face hub, through its own library."""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from openpi_flash_models.errors import DownloadError


@dataclass(frozen=True)
class HubLocation:
    """What a URL names on the hub.

    Attributes:
        repository: ``ORG/REPO``.
        revision: branch, tag or commit; None is the default branch.
        path: below the repository; empty is all of it.
    """

    repository: str
    revision: str | None
    path: str


def parse_hub_url(url: str) -> HubLocation:
    """Take an ``hf://`` URL apart.

    Raises:
        DownloadError: it names no repository.
    """
    scheme, _, rest = url.partition("://")
    names = [part for part in rest.split("/") if part]
    if scheme != "hf" or len(names) < 2:
        raise DownloadError(f"{url} names no repository: expected hf://ORG/REPO[@REVISION][/PATH]")
    repository, _, revision = names[1].partition("@")
    return HubLocation(f"{names[0]}/{repository}", revision or None, "/".join(names[2:]))


def list_hub(location: HubLocation) -> list[str]:
    """Names of the files of a location, relative to it; one empty name is a file itself.

    Raises:
        DownloadError: there is nothing, or the hub cannot be asked.
    """
    # heavy: seconds of imports
    from huggingface_hub import HfApi

    with _hub_errors(location):
        info = HfApi(endpoint=_endpoint()).model_info(
            location.repository, revision=location.revision
        )
    names = [sibling.rfilename for sibling in info.siblings or []]
    if not location.path:
        return names
    if location.path in names:
        return [""]
    below = f"{location.path}/"
    found = [name.removeprefix(below) for name in names if name.startswith(below)]
    if not found:
        raise DownloadError(f"hf://{location.repository} has no {location.path}")
    return found


def fetch_from_hub(location: HubLocation, directory: Path) -> Path:
    """Download into ``directory``; resumes an earlier attempt.

    Returns:
        The file or directory that the location names.

    Raises:
        DownloadError: names what could not be fetched.
    """
    # heavy: seconds of imports
    from huggingface_hub import snapshot_download

    # the library takes shell patterns: a name's own brackets are put into brackets
    path = glob.escape(location.path)
    with _hub_errors(location):
        snapshot_download(
            location.repository,
            revision=location.revision,
            allow_patterns=[path, f"{path}/**"] if path else None,
            local_dir=directory,
            endpoint=_endpoint(),
        )
    shutil.rmtree(directory / ".cache", ignore_errors=True)  # the library's state for resuming
    found = directory / location.path if location.path else directory
    if not found.exists():
        raise DownloadError(f"hf://{location.repository} has no {location.path}")
    return found


def _endpoint() -> str | None:
    """The hub's address; the library itself reads the variable only when it is imported."""
    return os.environ.get("HF_ENDPOINT") or None


@contextlib.contextmanager
def _hub_errors(location: HubLocation) -> Iterator[None]:
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    name = f"hf://{location.repository}"
    try:
        yield
    except GatedRepoError as error:
        raise DownloadError(
            f"{name} is gated: accept its terms on the hub, then set HF_TOKEN"
        ) from error
    except RepositoryNotFoundError as error:
        raise DownloadError(f"{name} does not exist, or needs HF_TOKEN to be seen") from error
    except RevisionNotFoundError as error:
        raise DownloadError(f"{name} has no revision {location.revision}") from error
    except LocalEntryNotFoundError as error:
        raise DownloadError(
            f"cannot reach the Hugging Face hub for {name}: {_line(error)}"
        ) from error
    except HfHubHTTPError as error:
        raise DownloadError(f"{name}: {_line(error)}") from error
    except (OSError, ValueError) as error:
        raise DownloadError(f"{name}: {_line(error)}") from error


def _line(error: Exception) -> str:
    """The first line: the library adds advice of its own."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__
