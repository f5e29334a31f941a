"""Asks a slot from an event loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.protocol import State

from openpi_flash_server.slot.answer import Answer
from openpi_flash_server.slot.client import Client
from openpi_flash_server.slot.slot import Slot


async def ask_slot(
    slot: Slot, decode: Callable[[], Any], client: Client, connection: ServerConnection
) -> Answer:
    """The answer to a message that came on a connection, whose session is the client's name."""
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[Answer] = loop.create_future()
    slot.receive(
        decode,
        client=client,
        session=client.name,
        respond=lambda answer: _settle_soon(loop, answered, answer),
        is_cancelled=lambda: connection.state is not State.OPEN,
    )
    return await answered


@contextlib.contextmanager
def visiting(slot: Slot, client: Client, connection: ServerConnection) -> Iterator[None]:
    """Tells the slot that the client has left: when its connection ends, at the latest at the end.

    Its waiting request is then dropped, and does not keep its handler until its turn comes.
    """
    closed = asyncio.ensure_future(connection.wait_closed())
    closed.add_done_callback(lambda _: slot.client_left(client))
    try:
        yield
    finally:
        closed.cancel()
        slot.client_left(client)


def _settle_soon(
    loop: asyncio.AbstractEventLoop, answered: asyncio.Future[Answer], answer: Answer
) -> None:
    # a loop that has ended has no client left to answer
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(_settle, answered, answer)


def _settle(answered: asyncio.Future[Answer], answer: Answer) -> None:
    if not answered.done():
        answered.set_result(answer)
