"""``hf://ORG/REPO[@REVISION][/PATH]``: files of the Hugging Face hub, through its own library."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

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
    parts = urlsplit(url)
    names = [parts.netloc, *(part for part in parts.path.split("/") if part)]
    if parts.scheme != "hf" or len(names) < 2 or not names[0]:
        raise DownloadError(f"{url} names no repository: expected hf://ORG/REPO[@REVISION][/PATH]")
    repository, _, revision = names[1].partition("@")
    return HubLocation(f"{names[0]}/{repository}", revision or None, "/".join(names[2:]))


def fetch_from_hub(location: HubLocation, directory: Path) -> Path:
    """Download into ``directory``, going on where an earlier attempt stopped.

    Returns:
        The file or directory that the location names.

    Raises:
        DownloadError: names what could not be fetched.
    """
    # heavy: seconds of imports
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    name = f"hf://{location.repository}"
    patterns = [location.path, f"{location.path}/**"] if location.path else None
    try:
        snapshot_download(
            location.repository,
            revision=location.revision,
            allow_patterns=patterns,
            local_dir=directory,
            # the library reads it once, when it is imported
            endpoint=os.environ.get("HF_ENDPOINT") or None,
        )
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
    shutil.rmtree(directory / ".cache", ignore_errors=True)  # the library's notes for going on
    found = directory / location.path if location.path else directory
    if not found.exists():
        raise DownloadError(f"{name} has no {location.path}")
    return found


def _line(error: Exception) -> str:
    """The first line: the library adds advice of its own."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__
