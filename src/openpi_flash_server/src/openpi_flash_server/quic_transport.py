"""QUIC in front of a slot: `flash_transport` speaks it, a thread here hands its requests on."""

from __future__ import annotations

import collections
import contextlib
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flash_transport import CodecError, FlashTransportError, QuicRequest, QuicServer
from openpi_flash_server.logs import EventLogger
from openpi_flash_server.request import Answer, ErrorCode, Failure
from openpi_flash_server.slot import Slot

log = EventLogger(__name__)


class CertificateError(Exception):
    """The server's certificate cannot be read or made; the message names the file."""


@dataclass(frozen=True, slots=True)
class KeptCertificate:
    """A certificate that the server makes once and keeps.

    Attributes:
        directory: where.
    """

    directory: Path


@dataclass(frozen=True, slots=True)
class OwnCertificate:
    """A certificate that the operator brings, in PEM files.

    Attributes:
        certificate: the certificate and its chain.
        key: its private key.
    """

    certificate: Path
    key: Path


class QuicTransport:
    """The QUIC end of a slot.

    It listens from the constructor on. Until `publish` it tells clients that it is not ready, and
    they wait: hello carries the metadata, which only a loaded model has.

    Args:
        slot: answers the requests.
        host: the address to listen on.
        port: 0 lets the system choose.
        certificate: who the server is.
        api_keys: who may connect; empty lets everybody in.
        dedicated_link: nobody else uses the link to the robots.

    Attributes:
        port: where it listens.
        fingerprint: SHA-256 of the server's certificate, hex; clients pin it.
        link_settings: how the link is set, as the kernel granted it.

    Raises:
        OSError: the port cannot be listened on.
        CertificateError: the certificate cannot be kept or read.
    """

    def __init__(
        self,
        slot: Slot,
        *,
        host: str,
        port: int,
        certificate: KeptCertificate | OwnCertificate,
        api_keys: Sequence[str] = (),
        dedicated_link: bool = False,
    ) -> None:
        self._slot = slot
        try:
            self._server = QuicServer(
                host,
                port,
                api_keys=list(api_keys),
                dedicated_link=dedicated_link,
                **_files(certificate),
            )
        except OSError as error:
            if error.filename is None:
                raise
            raise CertificateError(error.strerror) from error
        except FlashTransportError as error:
            raise CertificateError(str(error)) from error
        self.fingerprint: str = self._server.fingerprint
        self.port: int = self._server.port
        self.link_settings: Mapping[str, int] = self._server.link_settings
        self._prev_total_ms: collections.OrderedDict[str, float] = collections.OrderedDict()
        self._prev_total_lock = threading.Lock()
        self._thread = threading.Thread(target=self._serve, name=f"quic-{slot.name}", daemon=True)
        self._thread.start()

    def publish(self, metadata: Mapping[str, Any]) -> None:
        """Lets clients in: the slot is open."""
        self._server.set_metadata(dict(metadata))

    def stop_accepting(self) -> None:
        """Tells clients from now on that the server shuts down; what was accepted goes on."""
        self._server.stop_accepting()

    def close(self, *, grace: float) -> bool:
        """Closes every connection once its answers have arrived, or after `grace` s.

        Returns:
            Whether everything that was accepted is answered and the answers have arrived.
        """
        finished = self._server.drain(grace)
        self._thread.join()
        return finished

    def _serve(self) -> None:
        try:
            while (request := self._server.next_request()) is not None:
                self._take_or_fail(request)
        except FlashTransportError as error:
            log.error("QUIC failed, restart the server", slot=self._slot.name, reason=str(error))
            self._slot.has_trouble(f"QUIC failed: {error}")

    def _take_or_fail(self, request: QuicRequest) -> None:
        try:
            self._take(request)
        # one request's trouble must not end the thread that takes all of them
        except Exception as error:
            log.error("request could not be taken", exception=error, peer=request.peer)
            _fail(request, ErrorCode.INTERNAL, f"{type(error).__name__}: {error}")

    def _take(self, request: QuicRequest) -> None:
        if request.kind == "reset":
            self._slot.reset(request.session)
            request.respond({})
            return
        received_at = self._slot.clock()
        self._slot.receive(
            lambda: request.observation,
            session=request.session,
            respond=lambda answer: self._answer(request, answer, received_at),
            is_cancelled=lambda: request.cancelled,
        )

    def _answer(self, request: QuicRequest, answer: Answer, received_at: float) -> None:
        if isinstance(answer, Failure):
            _fail(request, answer.code, answer.message)
            return
        with self._prev_total_lock:
            prev_total_ms = self._prev_total_ms.get(request.peer)
        if prev_total_ms is not None:
            answer.result["server_timing"]["prev_total_ms"] = prev_total_ms
        try:
            request.respond(answer.result)
        except CodecError as error:
            log.error("reply could not be packed", exception=error, slot=self._slot.name)
            _fail(request, ErrorCode.INTERNAL, f"the reply could not be packed: {error}")
        except FlashTransportError as error:
            log.debug("client left before its answer", peer=request.peer, reason=str(error))
        self._remember(request.peer, (self._slot.clock() - received_at) * 1000)

    def _remember(self, peer: str, total_ms: float) -> None:
        with self._prev_total_lock:
            self._prev_total_ms[peer] = total_ms
            self._prev_total_ms.move_to_end(peer)
            if len(self._prev_total_ms) > _REMEMBERED_PEERS:
                self._prev_total_ms.popitem(last=False)


def _files(certificate: KeptCertificate | OwnCertificate) -> dict[str, Any]:
    if isinstance(certificate, KeptCertificate):
        return {"certificate_dir": certificate.directory}
    return {"tls_certificate": certificate.certificate, "tls_key": certificate.key}


def _fail(request: QuicRequest, code: ErrorCode, message: str) -> None:
    # a client that left needs no error
    with contextlib.suppress(FlashTransportError):
        request.fail(str(code), message)


_REMEMBERED_PEERS = 1024
"""Connections whose last total time is kept for their next reply."""
