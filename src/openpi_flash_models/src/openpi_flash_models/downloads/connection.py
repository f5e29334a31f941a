"""Opens URLs: encrypted unless somebody asked for less, also where a server sends elsewhere."""

from __future__ import annotations

import os
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from openpi_flash_models.errors import DownloadError

TIMEOUT_S = 30.0
ALLOW_HTTP = "OPENPI_FLASH_ALLOW_HTTP"
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def refuse_plain_http(url: str) -> None:
    """Refuse a download that anybody on the way could change.

    This machine's own addresses are allowed, and all others where the environment has
    ``OPENPI_FLASH_ALLOW_HTTP=1``.

    Raises:
        DownloadError: the URL is ``http://`` and not allowed.
    """
    parts = urlsplit(url)
    if parts.scheme != "http" or parts.hostname in _LOOPBACK:
        return
    if os.environ.get(ALLOW_HTTP, "") in ("1", "true"):
        return
    raise DownloadError(
        f"{url}: http:// is not encrypted, anybody on the way could change the weights; use "
        f"https://, or set {ALLOW_HTTP}=1 in a network that you trust"
    )


def open_url(url: str, headers: Mapping[str, str] | None = None, method: str = "GET") -> Any:
    """Send a request; ``urllib``'s errors pass through.

    Raises:
        DownloadError: the server sends an encrypted request on to an address that is not.
    """
    request = urllib.request.Request(url, headers=dict(headers or {}), method=method)
    # made anew: it reads the environment's proxies once
    return urllib.request.build_opener(_KeepsEncryption).open(request, timeout=TIMEOUT_S)


class _KeepsEncryption(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: urllib.request.Request, *answer: Any, **named: Any
    ) -> urllib.request.Request | None:
        newurl = named.get("newurl", answer[-1] if answer else "")
        if req.type == "https" and urlsplit(newurl).scheme != "https":
            raise DownloadError(
                f"{req.full_url}: the server sends on to {newurl}, which is not encrypted"
            )
        return super().redirect_request(req, *answer, **named)
