"""Events of a slot, as the slot would tell them, at times that a test chooses."""

from server_fakes import CLIENT, make_work

from openpi_flash_server.slot.answer import ErrorCode, Failure, Reply
from openpi_flash_server.slot.events import Answered, Dropped, Received, Started, Timing
from openpi_flash_server.slot.scheduler import DropReason

TIMING = Timing(queue_ms=4.0, decode_ms=2.0, infer_ms=60.0, batch_size=1)
POLICY_TIMING = {"preprocess_ms": 1.0, "infer_ms": 50.0, "postprocess_ms": 0.5}


def received(number=1, *, at=0.0, session="arm", observation=None, deadline_ms=None, client=CLIENT):
    work = make_work(observation, session=session, deadline_ms=deadline_ms)
    return Received(at, number, session, (work,), client)


def started(*numbers, at=0.0, size=None):
    return Started(at, numbers, size or len(numbers))


def answered(number=1, *, at=0.1, session="arm", timing=TIMING, **result):
    reply = Reply({"policy_timing": POLICY_TIMING, **result})
    return Answered(at, number, session, reply, timing)


def failed(number=1, *, at=0.1, session="arm", code=ErrorCode.INTERNAL, message="it broke"):
    return Answered(at, number, session, Failure(code, message), None)


def dropped(number=1, *, at=0.1, session="arm", reason=DropReason.SUPERSEDED):
    code = {
        DropReason.SUPERSEDED: ErrorCode.SUPERSEDED,
        DropReason.CANCELLED: ErrorCode.SUPERSEDED,
        DropReason.DEADLINE_EXCEEDED: ErrorCode.DEADLINE_EXCEEDED,
        DropReason.FULL: ErrorCode.NOT_READY,
    }[reason]
    return Dropped(at, number, session, reason, Failure(code, "dropped"))
