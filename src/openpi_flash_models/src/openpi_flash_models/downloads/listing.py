"""Lists the files that a URL names, with sizes and checksums."""

from __future__ import annotations

import json
import os
import urllib.error
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from openpi_flash_models.downloads.connection import open_url, refuse_plain_http
from openpi_flash_models.downloads.location import parse_location
from openpi_flash_models.errors import DownloadError

_GOOGLE = "https://storage.googleapis.com"
_EMULATOR = "STORAGE_EMULATOR_HOST"


@dataclass(frozen=True)
class RemoteFile:
    """A file on a server.

    Attributes:
        name: its path below the requested URL; empty if the URL is the file itself.
        url: where its bytes are.
        size: in bytes; None: the server does not say.
        md5: base64; empty if the server has none.
        crc32c: base64, likewise.
    """

    name: str
    url: str
    size: int | None
    md5: str = ""
    crc32c: str = ""

    @property
    def version(self) -> str:
        """Changes when the bytes do."""
        return self.md5 or self.crc32c or str(self.size)


def list_files(url: str) -> list[RemoteFile]:
    """Everything that a ``gs://`` or ``https://`` URL names.

    Raises:
        DownloadError: there is nothing, it is not public, or it would not be encrypted.
    """
    location = parse_location(url)
    if location.scheme == "gs":
        return _list_bucket(location.host, location.path, url)
    refuse_plain_http(url)
    return [_head(url)]


def refusal(url: str, status: int) -> DownloadError:
    """The error for an HTTP status of ``url``."""
    if status in (401, 403):
        return DownloadError(f"{url} is not public (HTTP {status})")
    if status in (404, 410):
        return DownloadError(f"{url} does not exist (HTTP {status})")
    return DownloadError(f"{url}: the server answered HTTP {status}")


def _list_bucket(bucket: str, path: str, url: str) -> list[RemoteFile]:
    base = _storage_root()
    found: list[RemoteFile] = []
    token = ""
    while True:
        query = {"prefix": path, "maxResults": "1000"} | ({"pageToken": token} if token else {})
        query["fields"] = "items(name,size,md5Hash,crc32c,generation),nextPageToken"
        page = _get_json(f"{base}/storage/v1/b/{quote(bucket)}/o?{urlencode(query)}", url)
        for item in page.get("items", []):
            if not isinstance(item, dict) or not {"name", "size"} <= item.keys():
                raise DownloadError(f"{url}: the listing has an object without a name or a size")
            name = str(item["name"])
            is_inside = name.startswith(f"{path}/") and not name.endswith("/")
            if name != path and not is_inside:
                continue  # a neighbour whose name begins the same, or a placeholder
            found.append(_object(base, bucket, item, name.removeprefix(path).lstrip("/")))
        token = page.get("nextPageToken", "")
        if not token:
            break
    if not found:
        raise DownloadError(f"{url} does not exist")
    whole = [file for file in found if not file.name]
    return whole or found


def _object(base: str, bucket: str, item: Mapping[str, Any], name: str) -> RemoteFile:
    parts = PurePosixPath(name).parts
    if ".." in parts or name.startswith("/") or "\0" in name:
        raise DownloadError(f"gs://{bucket}/{item['name']} would be written outside its directory")
    query = urlencode({"alt": "media", "generation": item.get("generation", "")})
    address = f"{base}/storage/v1/b/{quote(bucket)}/o/{quote(str(item['name']), safe='')}?{query}"
    return RemoteFile(
        name,
        address,
        _size(str(item["size"]), address),
        item.get("md5Hash", ""),
        item.get("crc32c", ""),
    )


def _head(url: str) -> RemoteFile:
    try:
        with open_url(url, method="HEAD") as answer:
            length = answer.headers.get("Content-Length")
            hashes = dict(
                part.strip().split("=", 1)
                for header in answer.headers.get_all("x-goog-hash") or []
                for part in header.split(",")
                if "=" in part
            )
    except urllib.error.HTTPError as error:
        error.close()
        raise refusal(url, error.code) from None
    except (OSError, ValueError) as error:
        raise unreachable(url, error) from error
    return RemoteFile("", url, _size(length, url), hashes.get("md5", ""), hashes.get("crc32c", ""))


def _size(length: str | None, url: str) -> int | None:
    """Of a Content-Length (RFC 9110, 8.6)."""
    if length is None:
        return None
    if not (length.isascii() and length.isdigit() and len(length) < 20):
        raise DownloadError(f"{url}: the server says that the file has {length[:40]!r} bytes")
    return int(length)


def unreachable(url: str, error: Exception) -> DownloadError:
    """The error for a failed connection."""
    reason = getattr(error, "reason", None) or error
    return DownloadError(f"cannot reach {urlsplit(url).netloc}: {reason}")


def _get_json(address: str, url: str) -> Mapping[str, Any]:
    try:
        with open_url(address) as answer:
            page = json.load(answer)
    except urllib.error.HTTPError as error:
        error.close()
        raise refusal(url, error.code) from None
    except ValueError as error:
        raise DownloadError(f"{url}: the listing is not JSON: {error}") from error
    except OSError as error:
        raise unreachable(address, error) from error
    if not isinstance(page, dict):
        raise DownloadError(f"{url}: the listing is not a JSON object")
    return page


def _storage_root() -> str:
    """Google's service, or the emulator that the environment names, as for Google's clients."""
    emulator = os.environ.get(_EMULATOR, "")
    if not emulator:
        return _GOOGLE
    return (emulator if "://" in emulator else f"http://{emulator}").rstrip("/")
