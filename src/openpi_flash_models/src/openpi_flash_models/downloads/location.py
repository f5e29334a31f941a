"""Parses URLs of downloads: which bytes they name, and where in the cache they are kept.

``gs://`` and ``hf://`` name objects as they are, so that ``#``, ``?`` and ``%`` are characters of
the name, as in openpi and in Google's own clients; in ``https://`` they mean what RFC 3986 says.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from openpi_flash_models.errors import DownloadError

SCHEMES = ("gs", "hf", "https", "http")
_LONGEST_NAME = 240
"""File systems take 255 bytes; locks and parts of downloads need some of them."""


@dataclass(frozen=True)
class Location:
    """What a URL names.

    Attributes:
        scheme: one of ``SCHEMES``.
        host: bucket, organisation of the hub, or server.
        path: below it, without slashes at its ends.
        query: of ``https://``; empty elsewhere.
    """

    scheme: str
    host: str
    path: str
    query: str = ""

    @property
    def cache_path(self) -> PurePosixPath:
        """Where it is kept, relative to the cache; the place openpi looks in, too."""
        return PurePosixPath(self.host, *_names(self))


def is_remote(location: str) -> bool:
    """Whether a location is a URL rather than a path."""
    return "://" in location


def parse_location(url: str) -> Location:
    """Take a URL apart.

    Raises:
        DownloadError: it is no URL that can be fetched, or names a place outside the cache.
    """
    scheme, _, rest = url.partition("://")
    if scheme not in SCHEMES:
        known = ", ".join(f"{known}://" for known in SCHEMES)
        raise DownloadError(f"cannot fetch {url}: expected a path or one of {known}")
    query = ""
    if scheme in ("gs", "hf"):
        host, _, path = rest.partition("/")
    else:
        try:
            parts = urlsplit(url)
        except ValueError as error:
            raise DownloadError(f"cannot fetch {url}: {error}") from error
        host, path, query = parts.netloc, parts.path, parts.query
        if parts.fragment:
            raise DownloadError(f"{url}: a # begins a fragment; write %23 for one in a name")
    location = Location(scheme, host, path.strip("/"), query)
    names = _names(location)
    if not host or not names:
        raise DownloadError(f"{url} names nothing that can be fetched")
    for name in (host, *names):
        if name in (".", "..") or "/" in name or "\\" in name or "\0" in name:
            raise DownloadError(f"{url} names nothing that can be fetched: {name!r} is no name")
        if len(name.encode("utf-8", "surrogateescape")) > _LONGEST_NAME:
            raise DownloadError(f"{url}: a name of more than {_LONGEST_NAME} bytes")
    return location


def _names(location: Location) -> list[str]:
    names = [part for part in location.path.split("/") if part]
    if location.scheme in ("https", "http"):
        names = [unquote(name) for name in names]
        if location.query and names:
            # another query is another file
            names[-1] += "?" + location.query.replace("/", "%2F")
    return names
