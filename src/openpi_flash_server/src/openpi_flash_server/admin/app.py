"""The pages of the operator's port. Needs no socket: tests and other servers can call it."""

from __future__ import annotations

import importlib.resources
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Path, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.types import ASGIApp

from openpi_flash_models.errors import ObservationError
from openpi_flash_server import __version__
from openpi_flash_server.admin.access import AccessGate
from openpi_flash_server.admin.administered import Administered, WatchedSlot
from openpi_flash_server.admin.api_page import api_page
from openpi_flash_server.admin.frames import frame
from openpi_flash_server.admin.live_settings import (
    LiveChange,
    LiveSettings,
    NotHereError,
    apply,
    settings_of,
)
from openpi_flash_server.admin.model_routes import add_model_routes
from openpi_flash_server.admin.status import state, status


def make_app(server: Administered, *, keys: Sequence[str], host: str) -> ASGIApp:
    """The application.

    Args:
        server: what it shows and changes.
        keys: of operators; empty lets in who asks for this machine by its name.
        host: the address that is listened on.
    """
    app = FastAPI(
        title="openpi-flash admin",
        version=__version__,
        description="State, metrics and live settings of a policy server.",
        # theirs load scripts from elsewhere, which a robot's network does not reach
        docs_url=None,
        redoc_url=None,
    )
    app.add_exception_handler(RequestValidationError, _without_values)
    _add_health(app, server)
    _add_state(app, server)
    _add_settings(app, server)
    add_model_routes(app, server)
    _add_page(app)
    return AccessGate(_with_headers(app), keys=keys, host=host)


def _add_health(app: FastAPI, server: Administered) -> None:
    @app.get("/healthz", tags=["health"], response_class=PlainTextResponse)
    @app.get("/readyz", tags=["health"], response_class=PlainTextResponse)
    def ready() -> Response:
        """200 if every slot answers requests; else 503 and why not."""
        found = state(server.slots())
        return _health(None if found == "ready" else found)

    @app.get("/livez", tags=["health"], response_class=PlainTextResponse)
    def live() -> Response:
        """200 unless only a restart helps."""
        return _health(_trouble(server.slots()))

    @app.get("/v2/health/ready", tags=["health"])
    def kserve_ready() -> JSONResponse:
        """`/readyz` in the words of KServe's Open Inference Protocol."""
        is_ready = state(server.slots()) == "ready"
        return JSONResponse({"ready": is_ready}, 200 if is_ready else 503)

    @app.get("/v2/health/live", tags=["health"])
    def kserve_live() -> JSONResponse:
        """`/livez` in the words of KServe's Open Inference Protocol."""
        is_live = _trouble(server.slots()) is None
        return JSONResponse({"live": is_live}, 200 if is_live else 503)

    @app.get("/v2/models/{name}", tags=["health"])
    def kserve_model(name: _ModelName) -> dict[str, Any]:
        """What a model is; `name` is a slot or an inference config."""
        slot, found = _slot_of_model(server.slots(), name)
        metadata = found.metadata or {}
        checkpoint = metadata.get("checkpoint") or {}
        return {
            "name": name,
            "slot": slot,
            "platform": "openpi-flash",
            "versions": [checkpoint["digest"]] if "digest" in checkpoint else [],
            "inputs": metadata.get("inputs", []),
            "outputs": metadata.get("actions", []),
        }

    @app.get("/v2/models/{name}/ready", tags=["health"])
    def kserve_model_ready(name: _ModelName) -> JSONResponse:
        """Whether a model answers."""
        _, found = _slot_of_model(server.slots(), name)
        is_ready = found.unhealthy_because is None
        return JSONResponse({"name": name, "ready": is_ready}, 200 if is_ready else 503)


def _add_state(app: FastAPI, server: Administered) -> None:
    started = server.clock()

    @app.get("/status", tags=["state"])
    def get_status() -> dict[str, Any]:
        """What runs, which model answers, and each session: its client, its link, its times."""
        return status(server, uptime_s=server.clock() - started)

    @app.get("/metrics", tags=["state"], response_class=PlainTextResponse)
    def metrics() -> Response:
        """The metrics, for Prometheus."""
        return Response(server.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    @app.get("/sessions/{session}/frames/{name:path}", tags=["state"], response_class=Response)
    def get_frame(session: str, name: str) -> Response:
        """A camera image of a session's last request, as the model gets it, as JPEG."""
        observation = server.board.observation(session)
        slot = server.slots().get(server.board.slot_of(session) or "")
        if observation is None or slot is None:
            raise HTTPException(404, "no observation of this session is kept")
        metadata = slot.metadata or {}
        try:
            image = frame(observation, name, _image_sizes(metadata))
        except ObservationError as error:
            raise HTTPException(404, str(error)) from None
        if image is None:
            raise HTTPException(404, "the last observation has no such image")
        return Response(image, media_type="image/jpeg")


def _add_settings(app: FastAPI, server: Administered) -> None:
    @app.get("/config", tags=["settings"], response_model_exclude_none=True)
    def get_config() -> LiveSettings:
        """The settings that can be changed while the server runs."""
        return settings_of(server)

    @app.patch("/config", tags=["settings"], response_model_exclude_none=True)
    def patch_config(change: LiveChange, request: Request) -> LiveSettings:
        """Changes settings until the server stops; all of them, or with 422 none."""
        del request
        try:
            return apply(server, change)
        except NotHereError as error:
            raise RequestValidationError(
                [{"loc": ("body", error.field), "msg": error.reason, "type": "not_here"}]
            ) from None


def _add_page(app: FastAPI) -> None:
    files = importlib.resources.files("openpi_flash_server.admin") / "page"
    for path, file, kind in (
        ("/", "index.html", "text/html"),
        ("/page.css", "page.css", "text/css"),
        ("/page.js", "page.js", "text/javascript"),
    ):
        content = (files / file).read_bytes()

        def page(content: bytes = content, kind: str = kind) -> Response:
            return Response(content, media_type=kind)

        app.add_api_route(path, page, include_in_schema=False)

    @app.get("/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        return HTMLResponse(api_page(app.openapi()))


def _with_headers(app: FastAPI) -> ASGIApp:
    @app.middleware("http")
    async def add(request: Request, call_next: Any) -> Response:
        response: Response = await call_next(request)
        response.headers.update(_HEADERS)
        return response

    return app


async def _without_values(request: Request, error: Exception) -> JSONResponse:
    """422 with what is wrong, in FastAPI's form; without the values, which may be long."""
    del request
    assert isinstance(error, RequestValidationError)
    kept = ("loc", "msg", "type")
    return JSONResponse(
        {"detail": [{key: one[key] for key in kept if key in one} for one in error.errors()]}, 422
    )


def _health(trouble: str | None) -> Response:
    if trouble is None:
        return PlainTextResponse("OK\n")
    return PlainTextResponse(f"{trouble}\n", 503)


def _trouble(slots: Mapping[str, WatchedSlot]) -> str | None:
    for name, slot in slots.items():
        if slot.trouble_because is not None:
            return f"{name}: {slot.trouble_because}"
    return None


def _slot_of_model(slots: Mapping[str, WatchedSlot], name: str) -> tuple[str, WatchedSlot]:
    for slot, found in slots.items():
        if name in (slot, (found.metadata or {}).get("config")):
            return slot, found
    raise HTTPException(404, f"no such model, this server has: {', '.join(slots)}")


def _image_sizes(metadata: Mapping[str, Any]) -> dict[str, Sequence[int]]:
    """Height and width of each image that the model gets, by its keys joined by `/`."""
    sizes = {}
    for spec in metadata.get("image_specs", []):
        shape = spec["target_shape"]
        sizes["/".join(spec["path"])] = shape[:2] if shape[2] == 3 else shape[1:]
    return sizes


_ModelName = Annotated[str, Path(max_length=200)]
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
