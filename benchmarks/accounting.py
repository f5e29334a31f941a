"""What the kernel's books say: CPU time of processes, datagrams lost, settings."""

from __future__ import annotations

import re
from pathlib import Path

PROC = Path("/proc")


def cpu_seconds(pid: int) -> float:
    """CPU time of all living threads of a process and of its descendants, to the nanosecond."""
    return sum(_own_cpu_seconds(member) for member in process_tree(pid))


def process_tree(pid: int) -> list[int]:
    """Return a process and its living descendants, parents first."""
    parents = {}
    for stat in PROC.glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except OSError:  # it ended meanwhile
            continue
        # the name may hold spaces and parentheses; the parent is the second field behind it
        parents[int(stat.parent.name)] = int(text.rpartition(")")[2].split()[1])
    tree = [pid]
    for member in tree:
        tree += [child for child, parent in parents.items() if parent == member]
    return tree


def udp_receive_overflows() -> int:
    """Datagrams that this machine dropped because a socket's receive buffer was full."""
    names, values = re.findall(r"^Udp: (.+)$", (PROC / "net/snmp").read_text(), re.MULTILINE)
    return int(dict(zip(names.split(), values.split(), strict=True))["RcvbufErrors"])


def sysctl(name: str) -> str:
    """Return a setting of the kernel, such as "net/core/rmem_max"."""
    return (PROC / "sys" / name).read_text().strip()


def _own_cpu_seconds(pid: int) -> float:
    tasks = (PROC / str(pid) / "task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9
