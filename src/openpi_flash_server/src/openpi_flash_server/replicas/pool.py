"""Chooses the replica of a policy that runs a call; and what follows when one is lost. Pure.

A replica is a copy of the policy in a process of its own. A call is one batch of requests.

- A call goes to the replica with the fewest calls, of equals to the one that is idle for longest.
- A policy that keeps state between requests keeps a session on one replica, the one with the fewest
  sessions when the session begins.
- The calls of a replica that is lost run on another, at most `MOST_TRIES` in all: a request that
  kills its replica must not kill every one. Where the policy keeps state they fail, since the
  state of their sessions is lost with it.
- A call that runs for too long costs its replica: the call fails, the replica is killed, and the
  calls behind it run on another.
- A lost replica is started anew: at once, or after pauses that double while replicas do not come up
  or are lost before they have answered anything.

The order of calls: `resize`, `begin`, `answered`, `given_up`, `is_ready`, `is_lost`, `reset` and
`session_ended` when they happen, and `look` at `next_look`. Each returns what is to be done.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

MOST_TRIES = 2
"""Replicas that a call may be given to."""

LONGEST_ABSENCE = 30.0
"""s without any ready replica after which calls that wait for one fail."""

FIRST_PAUSE = 1.0
"""s before another start after one that failed, and after the second loss in a row."""

LONGEST_PAUSE = 60.0
"""s between two starts of a replica that does not come up."""

MOST_SESSIONS = 4096
"""Sessions that are remembered; the one unused for longest is forgotten first."""


@dataclass(eq=False, slots=True)
class Call:
    """One batch of requests. Calls are compared by identity.

    Attributes:
        sessions: whose requests these are.
        deadline: when the answers are of no more use, monotonic s; infinite for never.
        tries: how many replicas it was given to.
    """

    sessions: tuple[Hashable, ...]
    deadline: float = math.inf
    tries: int = 0


@dataclass(frozen=True, slots=True)
class Start:
    """Start a replica."""

    replica: int


@dataclass(frozen=True, slots=True)
class Give:
    """Have a replica run a call."""

    replica: int
    call: Call


@dataclass(frozen=True, slots=True)
class Fail:
    """Fail a call; `is_late`: because its deadline has passed."""

    call: Call
    reason: str
    is_late: bool = False


@dataclass(frozen=True, slots=True)
class Reset:
    """Have a replica drop its state before the next call."""

    replica: int


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop a replica: it runs nothing."""

    replica: int


@dataclass(frozen=True, slots=True)
class Kill:
    """End a replica at once: it hangs."""

    replica: int


Action = Start | Give | Fail | Reset | Stop | Kill


@dataclass(frozen=True, slots=True)
class Counts:
    """The replicas by what they are doing, and how many were lost since the start."""

    wanted: int
    ready: int
    starting: int
    stopping: int
    lost: int


@dataclass(slots=True)
class _Replica:
    """`calls` in the order in which they run; the first of them runs since `busy_since`."""

    number: int
    is_ready: bool = False
    is_leaving: bool = False
    calls: list[Call] = field(default_factory=list)
    busy_since: float = math.inf
    idle_since: float = -math.inf
    # sessions whose state goes when the last of their calls has run
    resets: set[Hashable] = field(default_factory=set)


class ReplicaPool:
    """The replicas of one policy.

    Args:
        in_flight: how many calls a replica may have: one runs, the others wait in its process.
        longest_call: how long a call may run, s; infinite for ever.

    Attributes:
        keeps_state: whether a session has to stay on one replica.
    """

    def __init__(self, *, in_flight: int = 1, longest_call: float = math.inf) -> None:
        self.keeps_state = False
        self._in_flight = in_flight
        self._longest_call = longest_call
        self._wanted = 0
        self._numbers = 0
        self._replicas: dict[int, _Replica] = {}
        # in the order of their last use
        self._homes: OrderedDict[Hashable, int] = OrderedDict()
        self._waiting: list[Call] = []
        self._lost = 0
        self._losses_in_a_row = 0
        self._failed_starts = 0
        self._starts_due: list[float] = []
        self._absent_since = -math.inf
        self._absent_because = ""

    @property
    def counts(self) -> Counts:
        """How many replicas there are."""
        replicas = self._replicas.values()
        staying = [one for one in replicas if not one.is_leaving]
        ready = sum(one.is_ready for one in staying)
        return Counts(
            wanted=self._wanted,
            ready=ready,
            starting=len(staying) - ready + len(self._starts_due),
            stopping=sum(one.is_leaving for one in replicas),
            lost=self._lost,
        )

    @property
    def places(self) -> int:
        """How many calls may be under way at once, those that are included."""
        under_way = len(self._waiting) + sum(len(one.calls) for one in self._replicas.values())
        return under_way + self.free

    @property
    def free(self) -> int:
        """How many more calls can be begun now."""
        return max(0, sum(self._room(one) for one in self._takers()) - len(self._waiting))

    @property
    def is_idle(self) -> bool:
        """Whether no call is under way."""
        return not self._waiting and not any(one.calls for one in self._replicas.values())

    @property
    def refusal(self) -> str | None:
        """Why no call can be run now or soon; None if one can."""
        if any(one.is_ready for one in self._replicas.values()):
            return None
        because = f": {self._absent_because}" if self._absent_because else ""
        return f"none of {self._wanted} replicas is ready{because}"

    def can_begin(self, session: Hashable) -> bool:
        """Whether a call with a request of `session` would run on a replica that has room."""
        home = self._home(session)
        return self.free > 0 if home is None else self._room(self._replicas[home]) > 0

    def home(self, session: Hashable) -> int | None:
        """The replica that holds the state of the session; None: any may run its requests."""
        return self._home(session)

    def resize(self, wanted: int, now: float) -> list[Action]:
        """Keeps so many replicas from now on; those that leave run what they were given."""
        self._wanted = wanted
        actions: list[Action] = []
        staying = [one for one in self._replicas.values() if not one.is_leaving]
        surplus = len(staying) + len(self._starts_due) - wanted
        while surplus > 0 and self._starts_due:
            self._starts_due.pop()
            surplus -= 1
        # those first that cost least: not ready, then without sessions, then the newest
        by_worth = sorted(
            staying, key=lambda one: (one.is_ready, self._sessions_on(one.number), -one.number)
        )
        for one in by_worth[: max(0, surplus)]:
            one.is_leaving = True
            if not one.calls:
                actions.append(self._leave(one))
        for _ in range(-surplus):
            actions.append(self._start())
        return [*actions, *self._give_waiting(now)]

    def begin(self, call: Call, now: float) -> list[Action]:
        """A call is to run; if no replica has room, it waits for the next that has."""
        if self.keeps_state:
            replica = self._settle(call)
            if replica is not None:
                return [self._give(replica, call, now)]
        self._waiting.append(call)
        return self._give_waiting(now)

    def answered(self, call: Call, now: float) -> list[Action]:
        """The replica has run the call."""
        self._losses_in_a_row = 0
        return self._ended(call, now)

    def given_up(self, call: Call, now: float) -> list[Action]:
        """Nobody wants the call to run any more; without effect on one that has run."""
        if call in self._waiting:
            self._waiting.remove(call)
            return []
        return self._ended(call, now)

    def is_ready(self, number: int, now: float) -> list[Action]:
        """A replica has started, and is warm."""
        replica = self._replicas.get(number)
        if replica is None:
            return []
        replica.is_ready = True
        replica.idle_since = now
        self._failed_starts = 0
        self._absent_because = ""
        return self._give_waiting(now)

    def is_lost(self, number: int, reason: str, now: float) -> list[Action]:
        """A replica has died, or could not start."""
        replica = self._replicas.pop(number, None)
        if replica is None:
            return []
        actions = self._fate_of(replica, replica.calls, f"the replica was lost: {reason}", now)
        if not replica.is_leaving:
            self._replace(replica, reason, now)
        return [*actions, *self._start_due(now), *self._give_waiting(now)]

    def reset(self, session: Hashable) -> list[Action]:
        """Drops the session's state after its calls that were begun, and frees its place."""
        number = self._home(session)
        if number is None:
            return []
        del self._homes[session]
        replica = self._replicas[number]
        if any(session in call.sessions for call in replica.calls):
            replica.resets.add(session)
            return []
        return [Reset(number)] if replica.is_ready else []

    def session_ended(self, session: Hashable) -> None:
        """Nobody uses the session any more."""
        self._homes.pop(session, None)

    def look(self, now: float) -> list[Action]:
        """Starts what is due, and ends calls that take too long."""
        actions: list[Action] = []
        for replica in list(self._replicas.values()):
            if now - replica.busy_since >= self._longest_call:
                del self._replicas[replica.number]
                first, *rest = replica.calls
                reason = f"the model has not answered for {self._longest_call:g} s"
                actions += [Kill(replica.number), Fail(first, reason)]
                actions += self._fate_of(replica, rest, f"the call before it hung: {reason}", now)
                if not replica.is_leaving:
                    self._replace(replica, reason, now)
        if self._waiting and self.refusal and now - self._absent_since >= LONGEST_ABSENCE:
            reason = f"no replica has come back for {LONGEST_ABSENCE:g} s: {self.refusal}"
            actions += [Fail(call, reason) for call in self._waiting]
            self._waiting.clear()
        return [*actions, *self._start_due(now), *self._give_waiting(now)]

    @property
    def next_look(self) -> float:
        """When `look` would do something, if nothing happens before; infinite for never."""
        times = [one.busy_since + self._longest_call for one in self._replicas.values()]
        times += self._starts_due
        if self._waiting and self.refusal:
            times.append(self._absent_since + LONGEST_ABSENCE)
        return min(times, default=math.inf)

    def _ended(self, call: Call, now: float) -> list[Action]:
        actions: list[Action] = []
        for replica in self._replicas.values():
            if call not in replica.calls:
                continue
            replica.calls.remove(call)
            replica.busy_since = now if replica.calls else math.inf
            replica.idle_since = now
            done = {
                session
                for session in replica.resets
                if not any(session in other.sessions for other in replica.calls)
            }
            if done:
                replica.resets -= done
                actions.append(Reset(replica.number))
            if replica.is_leaving and not replica.calls:
                actions.append(self._leave(replica))
            break
        return [*actions, *self._give_waiting(now)]

    def _takers(self) -> list[_Replica]:
        return [one for one in self._replicas.values() if one.is_ready and not one.is_leaving]

    def _room(self, replica: _Replica) -> int:
        is_taker = replica.is_ready and not replica.is_leaving
        return self._in_flight - len(replica.calls) if is_taker else 0

    def _home(self, session: Hashable) -> int | None:
        if not self.keeps_state:
            return None
        number = self._homes.get(session)
        if number is None or number not in self._replicas:
            return None
        return None if self._replicas[number].is_leaving else number

    def _settle(self, call: Call) -> _Replica | None:
        """The replica that holds the state of the call's sessions; for new ones it is chosen."""
        homes = {self._home(session) for session in call.sessions} - {None}
        number = homes.pop() if homes else self._fewest_sessions()
        if number is None:
            return None
        for session in call.sessions:
            self._homes[session] = number
            self._homes.move_to_end(session)
        while len(self._homes) > MOST_SESSIONS:
            self._homes.popitem(last=False)
        return self._replicas[number]

    def _fewest_sessions(self) -> int | None:
        takers = [one for one in self._takers() if self._room(one) > 0]
        if not takers:
            return None
        fewest = min(takers, key=lambda one: (self._sessions_on(one.number), len(one.calls)))
        return fewest.number

    def _sessions_on(self, number: int) -> int:
        return sum(home == number for home in self._homes.values())

    def _give(self, replica: _Replica, call: Call, now: float) -> Give:
        if not replica.calls:
            replica.busy_since = now
        replica.calls.append(call)
        call.tries += 1
        return Give(replica.number, call)

    def _give_waiting(self, now: float) -> list[Action]:
        actions: list[Action] = []
        while self._waiting:
            replica = min(
                (one for one in self._takers() if self._room(one) > 0),
                key=lambda one: (len(one.calls), one.idle_since),
                default=None,
            )
            if replica is None:
                break
            call = self._waiting[0]
            if self.keeps_state:
                replica = self._settle(call)
                assert replica is not None
            del self._waiting[0]
            actions.append(self._give(replica, call, now))
        return actions

    def _fate_of(
        self, replica: _Replica, calls: Sequence[Call], reason: str, now: float
    ) -> list[Action]:
        """What becomes of the calls of a replica that is gone."""
        self._forget_sessions_on(replica)
        actions: list[Action] = []
        again: list[Call] = []
        for call in calls:
            if now >= call.deadline:
                actions.append(Fail(call, f"its deadline has passed, and {reason}", is_late=True))
            elif self.keeps_state:
                actions.append(
                    Fail(call, f"{reason}; the session's state is gone with it, it begins anew")
                )
            elif call.tries >= MOST_TRIES:
                actions.append(Fail(call, f"{reason}, as was the one before it"))
            else:
                again.append(call)
        # they have waited for longest
        self._waiting[:0] = again
        return actions

    def _start(self) -> Start:
        self._numbers += 1
        self._replicas[self._numbers] = _Replica(self._numbers)
        return Start(self._numbers)

    def _replace(self, replica: _Replica, reason: str, now: float) -> None:
        self._lost += 1
        if replica.is_ready:
            pauses = self._losses_in_a_row
            self._losses_in_a_row += 1
        else:
            self._failed_starts += 1
            pauses = self._failed_starts
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(pauses - 1, 10)) if pauses else 0.0
        self._starts_due.append(now + pause)
        if not any(one.is_ready for one in self._replicas.values()):
            if not self._absent_because:
                self._absent_since = now
            self._absent_because = reason

    def _start_due(self, now: float) -> list[Action]:
        due = [at for at in self._starts_due if at <= now]
        self._starts_due = [at for at in self._starts_due if at > now]
        return [self._start() for _ in due]

    def _leave(self, replica: _Replica) -> Stop:
        del self._replicas[replica.number]
        self._forget_sessions_on(replica)
        return Stop(replica.number)

    def _forget_sessions_on(self, replica: _Replica) -> None:
        for session in [one for one, home in self._homes.items() if home == replica.number]:
            del self._homes[session]
