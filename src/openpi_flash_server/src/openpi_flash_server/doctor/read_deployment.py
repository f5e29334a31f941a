"""Reads what a configuration asks of this machine: ports, files and folders. Shows no key."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

from openpi_flash_server.config.file import load_config, misspelt_variables
from openpi_flash_server.config.files import user_path
from openpi_flash_server.config.listen_address import is_loopback
from openpi_flash_server.config.problems import ConfigError
from openpi_flash_server.config.server_config import ServerConfig
from openpi_flash_server.doctor.certificate_dates import fingerprint, first_certificate, not_after
from openpi_flash_server.doctor.machine import (
    Certificate,
    CheckpointNote,
    Deployment,
    Folder,
    Port,
    SecretFile,
)
from openpi_flash_server.logs.outside_text import shown


def read_deployment(path: Path | None, environment: Mapping[str, str] = os.environ) -> Deployment:
    """What the configuration at `path` asks of this machine; without one, the variables alone."""
    misspelt = dict(misspelt_variables(environment))
    if path is None:
        return Deployment(misspelt=misspelt)
    try:
        config = load_config(path, environment)
    except ConfigError as error:
        lines = [line.strip() for line in str(error).splitlines()]
        return Deployment(str(path), tuple(lines[1:] or lines), misspelt=misspelt)
    return Deployment(
        path=str(path),
        mode=str(config.mode),
        listens_beyond_loopback=not is_loopback(config.host),
        keys=len(config.keys),
        frameworks=_frameworks(config),
        misspelt=misspelt,
        ports=tuple(_ports(config)),
        running=_running(config),
        certificate=_certificate(config, environment),
        secrets=tuple(_secrets(config)),
        folders=tuple(_folders(config, environment)),
        checkpoints=tuple(_checkpoints(config)),
    )


def _frameworks(config: ServerConfig) -> frozenset[str]:
    found = set()
    if config.planner is not None:
        found.add("jax")
    if config.action is not None and config.action.names_inference_config:
        found.add("torch" if config.action.framework == "pytorch" else "jax")
    return frozenset(found)


def _ports(config: ServerConfig) -> Iterator[Port]:
    for slot in config.slots:
        transport = config.transport(slot)
        yield _port(f"{slot} WebSocket", "tcp", config.host, transport.websocket_port)
        yield _port(f"{slot} QUIC", "udp", config.host, transport.quic_port)
    if config.admin.enabled:
        yield _port("admin", "tcp", config.admin.host, config.admin.port)


def _port(name: str, protocol: str, host: str, number: int) -> Port:
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    try:
        family, _, _, _, address = socket.getaddrinfo(host, number, type=kind)[0]
        with socket.socket(family, kind) as tried:
            if protocol == "tcp":
                # as the server does: connections that have ended do not keep it from listening
                tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(address)
            if protocol == "tcp":
                tried.listen(1)
    except OSError as error:
        problem = (error.strerror or str(error)).lower()
        return Port(name, protocol, host, number, problem)
    return Port(name, protocol, host, number)


def _running(config: ServerConfig) -> str:
    """What a server says that runs with this configuration; empty if none answers."""
    if not config.admin.enabled:
        return ""
    host = "127.0.0.1" if config.admin.host in {"0.0.0.0", "::"} else config.admin.host
    connection = http.client.HTTPConnection(host, config.admin.port, timeout=2)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        text = answer.read(_LONGEST_ANSWER).decode("utf-8", "replace").strip()
    except (OSError, http.client.HTTPException):
        return ""
    finally:
        connection.close()
    # any other program may have this port
    return shown(text) if answer.status in {200, 503} else ""


def _certificate(config: ServerConfig, environment: Mapping[str, str]) -> Certificate | None:
    if config.tls_certificate is not None:
        path, is_own = user_path(config.tls_certificate), True
    else:
        try:
            path, is_own = config.certificate_dir(environment) / OWN_CERTIFICATE, False
        except ValueError as error:
            return Certificate("state_dir", is_own=False, problem=str(error))
    try:
        der = first_certificate(path.read_text(errors="replace"))
        return Certificate(str(path), is_own, fingerprint(der), not_after(der))
    except FileNotFoundError:
        if is_own:
            return Certificate(str(path), is_own, problem="no such file")
        return Certificate(str(path.parent), is_own)
    except OSError as error:
        return Certificate(str(path), is_own, problem=(error.strerror or str(error)).lower())
    except ValueError as error:
        return Certificate(str(path), is_own, problem=str(error))


def _secrets(config: ServerConfig) -> Iterator[SecretFile]:
    for name, text in (
        ("api_key_file", config.api_key_file),
        ("admin.api_key_file", config.admin.api_key_file),
        ("tls_key", config.tls_key),
    ):
        if text is not None:
            path = user_path(text)
            try:
                yield SecretFile(name, str(path), path.stat().st_mode & 0o777)
            except OSError:
                # the server's own start, and `config check`, say why it cannot be read
                continue


def _folders(config: ServerConfig, environment: Mapping[str, str]) -> Iterator[Folder]:
    from openpi_flash_models.downloads import cache_root
    from openpi_flash_models.errors import DownloadError

    if config.tls_certificate is None:
        # without a place for it, the check of the certificate says so
        with contextlib.suppress(ValueError):
            yield _folder("certificate", config.certificate_dir(environment))
    if config.recording.directory is not None:
        yield _folder("recording", user_path(config.recording.directory))
    settings = (config.action, config.planner)
    if any(slot is not None and "://" in slot.checkpoint_dir for slot in settings):
        try:
            yield _folder("downloads", cache_root())
        except DownloadError:
            return


def _folder(name: str, path: Path) -> Folder:
    there = path.absolute()
    while not there.exists() and there != there.parent:
        there = there.parent
    free = shutil.disk_usage(there).free / 1e9
    return Folder(name, str(path), free, there.is_dir() and os.access(there, os.W_OK | os.X_OK))


def _checkpoints(config: ServerConfig) -> Iterator[CheckpointNote]:
    from openpi_flash_models.checkpoints.check import (
        check_planner_checkpoint,
        check_policy_checkpoint,
    )

    action = config.action
    if action is not None and action.names_inference_config:
        for finding in check_policy_checkpoint(
            action.model_config_name,
            action.checkpoint_dir,
            framework=action.framework,
            dtype=action.dtype,
            normalization=action.normalization,
            malformed_tokens=action.malformed_tokens,
        ):
            yield CheckpointNote("action", finding.severity, finding.text)
    if config.planner is not None:
        for finding in check_planner_checkpoint(config.planner.checkpoint_dir):
            yield CheckpointNote("planner", finding.severity, finding.text)


OWN_CERTIFICATE = "flash_transport.pem"
"""The file in `state_dir` (`src/flash_transport/src/trust/identity.rs`)."""

_LONGEST_ANSWER = 200
