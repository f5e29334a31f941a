"""The facts that the checks judge, as plain data: what a machine is, and what a server needs of it.

Nothing here holds a key, a password or the value of an environment variable.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Gpu:
    """A GPU, as its driver describes it; sizes in MiB."""

    name: str
    driver: str
    memory_mib: int
    used_mib: int


@dataclass(frozen=True)
class Port:
    """A port that the server would open.

    Attributes:
        name: what it is for, as `action QUIC`.
        protocol: `tcp` or `udp`.
        host: the address that is listened on.
        number: of the port.
        problem: why it cannot be opened now; empty if it can.
    """

    name: str
    protocol: str
    host: str
    number: int
    problem: str = ""


@dataclass(frozen=True)
class Certificate:
    """The certificate of QUIC.

    Attributes:
        path: its file.
        is_own: whether the operator brings it, instead of the server making it.
        fingerprint: its SHA-256, which robots pin; empty if there is none yet or it cannot be read.
        not_after: when it expires, s since 1970; None if unknown.
        problem: why it cannot be used; empty if it can, or is made at the start.
    """

    path: str
    is_own: bool
    fingerprint: str = ""
    not_after: float | None = None
    problem: str = ""


@dataclass(frozen=True)
class SecretFile:
    """A file that nobody else should read.

    Attributes:
        name: the field that names it.
        path: where it is.
        mode: its permission bits.
    """

    name: str
    path: str
    mode: int


@dataclass(frozen=True)
class Folder:
    """A folder that the server writes to.

    Attributes:
        name: what it is for.
        path: where it is, or will be.
        free_gb: free space of its disk, GB.
        is_writable: whether this user may write there.
    """

    name: str
    path: str
    free_gb: float
    is_writable: bool


@dataclass(frozen=True)
class CheckpointNote:
    """What is known of a checkpoint without its weights; severity `note`, `warning` or `error`."""

    slot: str
    severity: str
    text: str


@dataclass(frozen=True)
class Machine:
    """What the checks need to know of the machine on which they run.

    Attributes:
        system: operating system, kernel and processor.
        user: who runs this, as a number.
        python: its version.
        versions: of installed packages, None for those that are missing.
        has_compiled_transport: whether flash_transport has its compiled half.
        gpus: as nvidia-smi lists them.
        gpu_problem: why it could not be asked; empty if it could.
        memory_gb: of the computer: all of it, and what is available.
        kernel: settings by their sysctl names.
        udp_receive_errors: datagrams that full buffers dropped since the boot; None if unknown.
        open_files: how many files this user's processes may have open.
        clock: what keeps it right: `synchronized`, `not synchronized` or `unknown`.
        now: s since 1970.
    """

    system: str
    user: int
    python: str
    versions: Mapping[str, str | None]
    has_compiled_transport: bool
    gpus: tuple[Gpu, ...]
    gpu_problem: str
    memory_gb: tuple[float, float]
    kernel: Mapping[str, int]
    udp_receive_errors: int | None
    open_files: int
    clock: str
    now: float


@dataclass(frozen=True)
class Deployment:
    """What a configuration asks of the machine.

    Attributes:
        path: of the configuration; empty if none was named.
        problems: why it cannot be used; the rest is then empty.
        mode: the slots that are set.
        listens_beyond_loopback: whether other computers can reach the server.
        keys: how many keys let clients in.
        frameworks: what the models need, of `jax` and `torch`.
        misspelt: environment variables that set nothing, with what was likely meant.
        ports: that the server opens.
        running: what a server of ours answers on the admin port; empty if none does.
        certificate: of QUIC; None if there is no place for one.
        secrets: files with keys.
        folders: that the server writes to.
        checkpoints: what is known of them.
    """

    path: str = ""
    problems: tuple[str, ...] = ()
    mode: str = ""
    listens_beyond_loopback: bool = False
    keys: int = 0
    frameworks: frozenset[str] = frozenset()
    misspelt: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[Port, ...] = ()
    running: str = ""
    certificate: Certificate | None = None
    secrets: tuple[SecretFile, ...] = ()
    folders: tuple[Folder, ...] = ()
    checkpoints: tuple[CheckpointNote, ...] = ()
