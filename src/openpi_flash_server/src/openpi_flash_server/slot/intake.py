"""Reads messages as requests."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from flash_transport import CodecError
from openpi_flash_models.errors import ObservationError
from openpi_flash_server.config.request_limits import RequestLimits
from openpi_flash_server.slot.answer import Answer, Failure
from openpi_flash_server.slot.batch_request import parse_works
from openpi_flash_server.slot.client import Client
from openpi_flash_server.slot.failures import bad_request, internal
from openpi_flash_server.slot.request_check import check_request
from openpi_flash_server.slot.session import owned_name, split_token
from openpi_flash_server.slot.ticket import Ticket
from openpi_flash_server.slot.work import Work, with_seed


class Intake:
    """Makes tickets of the messages of one slot. May be used from any thread.

    Args:
        clock: monotonic seconds.
        limits: of each observation.

    Attributes:
        seeds: a new seed for each request without seed and noise, so that it can be repeated; may
            be called from any thread. None leaves them without.
    """

    def __init__(self, clock: Callable[[], float], limits: RequestLimits) -> None:
        self._clock = clock
        self._limits = limits
        self.seeds: Callable[[], int] | None = None

    def ticket(
        self,
        decode: Callable[[], Any],
        *,
        received_at: float,
        client: Client,
        session: str,
        respond: Callable[[Answer], None],
        is_cancelled: Callable[[], bool],
        respond_first: Callable[[dict[str, Any]], None] | None = None,
    ) -> Ticket | Failure:
        """The request that a message holds, or the answer to one that cannot be used.

        Args:
            decode: decodes the message; encoded images in it stay as they are.
            received_at: when its last byte had come, monotonic s.
            client: who sent it.
            session: the transport's name for the client, used if the message names no session.
            respond: as of a ticket.
            is_cancelled: as of a ticket.
            respond_first: as of a ticket.
        """
        try:
            message, session_token = split_token(decode())
            works, is_batch = parse_works(message, session=session, received_at=received_at)
            for work in works:
                check_request(work, self._limits)
            works = _owned(works, client)
        except Exception as error:
            expected = isinstance(error, CodecError | ObservationError)
            return bad_request(error) if expected else internal(error)
        if self.seeds is not None:
            works = tuple(with_seed(work, self.seeds()) for work in works)
        deadline_ms = works[0].deadline_ms
        return Ticket(
            works=works,
            is_batch=is_batch,
            client=client,
            received_at=received_at,
            decode_ms=(self._clock() - received_at) * 1000,
            deadline=None if deadline_ms is None else received_at + deadline_ms / 1000,
            respond=respond,
            is_cancelled=is_cancelled,
            respond_first=respond_first,
            session_token=session_token,
        )


def _owned(works: tuple[Work, ...], client: Client) -> tuple[Work, ...]:
    session = works[0].session
    assert isinstance(session, str)
    owned = owned_name(session, client.key, client.name)
    if owned == session:
        return works
    return tuple(dataclasses.replace(work, session=owned) for work in works)
