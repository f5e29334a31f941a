"""`/healthz`: whether a slot answers requests, for people, probes and load balancers."""

from __future__ import annotations

import http

from websockets.asyncio.server import ServerConnection
from websockets.http11 import Response as HttpResponse

HEALTH_PATH = "/healthz"


def health_page(connection: ServerConnection, trouble: str | None) -> HttpResponse:
    """The answer to a request for the page.

    Args:
        connection: it came on.
        trouble: why the slot does not answer; None if it does.
    """
    if trouble is None:
        return connection.respond(http.HTTPStatus.OK, "OK\n")
    return connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, f"{trouble}\n")
