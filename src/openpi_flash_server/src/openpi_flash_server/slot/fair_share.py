"""Shares a device among those who wait for it. Pure.

Start-time fair queueing (Goyal, Vin, Cheng, SIGCOMM 1996) in a tree: API keys, computers of a key,
connections of a computer, sessions of a connection. At each level, whoever waits gets as much of
the device as the others there, so that many sessions of one client do not slow down another client.
Within `lag` the caller is free to choose, for example the earliest deadline.
"""

from __future__ import annotations

import functools
from collections import OrderedDict, defaultdict
from collections.abc import Hashable, Iterable, Sequence

Path = tuple[Hashable, ...]
"""From the API key down to the session."""

LAG = 0.5
"""Observations that one may be ahead of another who waits, for deadlines to decide among those who
are level: less than one, so that no deadline puts a client ahead of another twice in a row."""

MAX_NODES = 8192
"""Whoever was served longest ago is forgotten, and starts anew beside those who wait."""


class FairShare:
    """The service that each node of the tree has had, in observations."""

    def __init__(self) -> None:
        self._served: OrderedDict[Path, float] = OrderedDict()
        # by parent: the service of the child that was chosen last, before it was served
        self._virtual_time: dict[Path, float] = {}

    def begins(self, path: Path, waiting: Iterable[Path]) -> None:
        """`path` waits after a pause: it has saved up no service while it wanted none.

        Args:
            path: who begins.
            waiting: who waits already; their keys, computers and connections had no pause.
        """
        shared, common = 0, path[:1]
        for other in waiting:
            while shared < len(path) and other[: shared + 1] == common:
                shared += 1
                common = path[: shared + 1]
        for node, parent in _nodes(path)[shared:]:
            now = self._virtual_time.get(parent, 0.0)
            self._served[node] = max(self._served.get(node, 0.0), now)
        while len(self._served) > MAX_NODES:
            forgotten, _ = self._served.popitem(last=False)
            self._virtual_time.pop(forgotten, None)

    def draft(self) -> Draft:
        """Charges that take effect only if they are committed."""
        return Draft(self._served, self._virtual_time)


class Draft:
    """A plan of what to serve next.

    Args:
        served: service by node; `commit` changes it.
        virtual_time: by parent; `commit` changes it.
    """

    def __init__(self, served: OrderedDict[Path, float], virtual_time: dict[Path, float]) -> None:
        self._served = served
        self._virtual_time = virtual_time
        self._charged: dict[Path, float] = {}
        self._chosen: dict[Path, float] = {}

    def eligible(self, waiting: Sequence[Path]) -> set[Path]:
        """Those of the waiting paths whose turn it may be."""
        if len(waiting) < 2:
            return set(waiting)
        return set(self._eligible(set(waiting), 0))

    def charge(self, path: Path, amount: float) -> None:
        """`path` is served `amount` observations."""
        for node, parent in _nodes(path):
            before = self._service(node)
            self._chosen[parent] = max(
                before, self._chosen.get(parent, self._virtual_time.get(parent, 0.0))
            )
            self._charged[node] = before + amount

    def commit(self) -> None:
        """Lets the charges take effect."""
        for node, service in self._charged.items():
            self._served[node] = service
            self._served.move_to_end(node)
        self._virtual_time.update(self._chosen)

    def _service(self, node: Path) -> float:
        return self._charged.get(node, self._served.get(node, 0.0))

    def _eligible(self, paths: Iterable[Path], depth: int) -> list[Path]:
        children: defaultdict[Hashable, list[Path]] = defaultdict(list)
        for path in paths:
            children[path[depth]].append(path)
        groups = list(children.values())
        if len(groups) == 1:
            return self._eligible_below(groups[0], depth)
        nodes = [below[0][: depth + 1] for below in groups]
        # nothing is charged before the first choice, which is mostly the only one
        if self._charged:
            services = list(map(self._service, nodes))
        else:
            services = [self._served.get(node, 0.0) for node in nodes]
        most = min(services) + LAG
        found: list[Path] = []
        for had, below in zip(services, groups, strict=True):
            if had <= most:
                found += below if len(below) == 1 else self._eligible_below(below, depth)
        return found

    def _eligible_below(self, paths: list[Path], depth: int) -> list[Path]:
        """Those of one node at this depth."""
        # the usual case: one session, of one connection, of one computer
        if len(paths) == 1 or min(map(len, paths)) <= depth + 1:
            return paths
        return self._eligible(paths, depth + 1)


@functools.lru_cache(maxsize=1024)
def _nodes(path: Path) -> tuple[tuple[Path, Path], ...]:
    """Every node on the way, with its parent."""
    return tuple((path[:depth], path[: depth - 1]) for depth in range(1, len(path) + 1))
