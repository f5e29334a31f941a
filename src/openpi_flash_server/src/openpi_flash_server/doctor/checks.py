"""The checks of `openpi-flash doctor`: each judges a few facts. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from openpi_flash_server.doctor.finding import Finding, fail, ok, warn
from openpi_flash_server.doctor.machine import Deployment, Machine

Check = Callable[[Machine, Deployment], list[Finding]]


def check_system(machine: Machine, deployment: Deployment) -> list[Finding]:
    """The operating system, and whether the server would run as root."""
    del deployment
    if machine.user == 0:
        remedy = "run the server as a user of its own, as the image and the systemd unit do"
        return [warn("system", f"{machine.system}, as root", remedy)]
    return [ok("system", machine.system)]


def check_versions(machine: Machine, deployment: Deployment) -> list[Finding]:
    """Our packages and what computes."""
    del deployment
    found = [ok("python", machine.python)]
    for name, version in machine.versions.items():
        if version is not None:
            found.append(ok("package", f"{name} {version}"))
        elif name in OURS:
            found.append(fail("package", f"{name} is missing", f"pip install {name}"))
    ours = {machine.versions[name] for name in OURS if machine.versions.get(name)}
    if len(ours) > 1:
        text = f"versions of ours differ: {', '.join(sorted(map(str, ours)))}"
        found.append(warn("package", text, "install all of them from one release"))
    if not machine.has_compiled_transport:
        remedy = "install a wheel of flash_transport, or Rust and build it (docs/robot.md)"
        found.append(fail("transport", "flash_transport has no compiled half: no QUIC", remedy))
    return found


def check_gpu(machine: Machine, deployment: Deployment) -> list[Finding]:
    """GPUs, their driver, and whether the frameworks can use them."""
    if not machine.gpus:
        reason = machine.gpu_problem or "nvidia-smi lists none"
        remedy = "install NVIDIA's driver; in a container, its container toolkit, and pass the GPU"
        return [warn("gpu", f"none: {reason}; models compute on the CPU", remedy)]
    found = [
        ok(
            "gpu",
            f"{gpu.name}, driver {gpu.driver}, {gpu.used_mib} of {gpu.memory_mib} MiB in use",
        )
        for gpu in machine.gpus
    ]
    if len(machine.gpus) > 1:
        found.append(
            warn(
                "gpu",
                f"{len(machine.gpus)} GPUs, and one process serves one",
                "start a server for each, with CUDA_VISIBLE_DEVICES and ports of its own",
            )
        )
    driver = min(_number(gpu.driver) for gpu in machine.gpus)
    for plugin, needed in CUDA_PLUGINS.items():
        if machine.versions.get(plugin) and driver < needed:
            remedy = "update the driver, or install jax[cuda12]"
            found.append(fail("gpu", f"{plugin} needs driver {needed}, this is {driver}", remedy))
    has_plugin = any(machine.versions.get(plugin) for plugin in CUDA_PLUGINS)
    if "jax" in deployment.frameworks and not has_plugin:
        found.append(
            fail("gpu", "JAX has no CUDA: models compute on the CPU", 'pip install "jax[cuda13]"')
        )
    return found


def check_memory(machine: Machine, deployment: Deployment) -> list[Finding]:
    """Memory of the computer and of the GPU, against what a pi0 of 3 billion parameters needs."""
    total, available = machine.memory_gb
    text = f"{available:.0f} of {total:.0f} GB available"
    # the null model and policies of the user's own name no framework: who knows what they need
    if available < MODEL_GB and deployment.frameworks:
        remedy = "a released checkpoint needs about as much while it is read; free some"
        found = [warn("memory", text, remedy)]
    else:
        found = [ok("memory", text)]
    for gpu in machine.gpus if not deployment.running else ():
        free = (gpu.memory_mib - gpu.used_mib) / 1024
        if free < MODEL_GB and deployment.frameworks:
            found.append(
                warn(
                    "memory",
                    f"{gpu.name}: {free:.1f} GiB free",
                    f"a released model needs about {MODEL_GB} GiB (docs/sizing.md); "
                    "nvidia-smi shows who has the rest",
                )
            )
    return found


def check_buffers(machine: Machine, deployment: Deployment) -> list[Finding]:
    """UDP socket buffers, and what they have dropped."""
    del deployment
    found = []
    for name in ("net.core.rmem_max", "net.core.wmem_max"):
        size = machine.kernel.get(name)
        if size is None:
            remedy = f"in a container the host's value counts: sysctl {name} there"
            found.append(warn("buffers", f"{name} cannot be read here", remedy))
        elif size < BUFFER_NEEDED:
            remedy = f"sysctl -w {name}={BUFFER_WANTED} (docs/network.md)"
            found.append(warn("buffers", f"{name} is {size}, wanted {BUFFER_WANTED}", remedy))
        else:
            found.append(ok("buffers", f"{name} is {size}"))
    if machine.udp_receive_errors:
        found.append(
            warn(
                "buffers",
                f"{machine.udp_receive_errors} datagrams were dropped since the boot",
                "if UdpRcvbufErrors of `nstat -az` rises while robots are connected, enlarge "
                "net.core.rmem_max",
            )
        )
    return found


def check_limits(machine: Machine, deployment: Deployment) -> list[Finding]:
    """How many files may be open: every WebSocket client is one."""
    del deployment
    text = f"{machine.open_files} open files"
    if machine.open_files < FILES_WANTED:
        return [warn("limits", text, f"ulimit -n {FILES_WANTED}, or LimitNOFILE= of the unit")]
    return [ok("limits", text)]


def check_clock(machine: Machine, deployment: Deployment) -> list[Finding]:
    """Whether the clock is right: logs, recordings and certificates are read by it."""
    del deployment
    if machine.now < BUILT_AFTER:
        return [fail("clock", "it is years behind", "set it, and run chrony or systemd-timesyncd")]
    if machine.clock == "not synchronized":
        return [warn("clock", machine.clock, "run chrony or systemd-timesyncd")]
    return [ok("clock", machine.clock)]


def check_configuration(machine: Machine, deployment: Deployment) -> list[Finding]:
    """The file, and variables that look like misspelt settings."""
    del machine
    found = []
    if deployment.problems:
        remedy = "openpi-flash config check FILE, until it is ok"
        found += [fail("config", problem, remedy) for problem in deployment.problems]
    elif deployment.path:
        found.append(ok("config", f"{deployment.path}, mode {deployment.mode}"))
    else:
        remedy = "openpi-flash doctor --config FILE also checks ports, keys and checkpoints"
        found.append(warn("config", "none was named", remedy))
    for variable, likely in deployment.misspelt.items():
        found.append(warn("config", f"{variable} sets nothing", f"did you mean {likely}?"))
    return found


def check_ports(machine: Machine, deployment: Deployment) -> list[Finding]:
    """Whether the ports can be opened; those of a server that runs are its own."""
    del machine
    found = []
    if deployment.running:
        found.append(ok("server", f"one runs here and says: {deployment.running}"))
    for port in deployment.ports:
        text = f"{port.name}: {port.host} {port.number}/{port.protocol}"
        if not port.problem:
            found.append(ok("ports", f"{text} is free"))
        elif deployment.running:
            found.append(ok("ports", f"{text} is open"))
        else:
            remedy = f"ss -lp{port.protocol[0]}n 'sport = :{port.number}' shows who has it"
            found.append(fail("ports", f"{text}: {port.problem}", remedy))
    return found


def check_keys(machine: Machine, deployment: Deployment) -> list[Finding]:
    """Who is let in, and who can read the keys."""
    del machine
    found = []
    if deployment.keys:
        found.append(ok("keys", f"{deployment.keys} let clients in"))
    elif deployment.listens_beyond_loopback:
        remedy = "set api_key_file, or host to 127.0.0.1 (docs/server.md#trust)"
        found.append(warn("keys", "none, and other computers can reach the server", remedy))
    for secret in deployment.secrets:
        if secret.mode & 0o007:
            text = f"{secret.name}: {secret.path} can be read by everybody ({secret.mode:04o})"
            found.append(warn("keys", text, f"chmod o= {secret.path}"))
    return found


def check_certificate(machine: Machine, deployment: Deployment) -> list[Finding]:
    """Whether QUIC has a certificate, and for how long."""
    certificate = deployment.certificate
    if certificate is None:
        return []
    if certificate.problem:
        remedy = "give the server's user a readable file, or a state_dir that it may write to"
        return [fail("certificate", f"{certificate.path}: {certificate.problem}", remedy)]
    if not certificate.fingerprint:
        return [ok("certificate", f"made at the first start, in {certificate.path}")]
    text = f"{certificate.path}, SHA-256 {certificate.fingerprint}"
    days = math.inf
    if certificate.not_after is not None:
        days = (certificate.not_after - machine.now) / _DAY
    if days < 0:
        return [fail("certificate", f"{text}, expired {-days:.0f} days ago", "renew it, restart")]
    if days < EXPIRES_SOON_DAYS:
        return [warn("certificate", f"{text}, expires in {days:.0f} days", "renew it, restart")]
    return [ok("certificate", text)]


def check_folders(machine: Machine, deployment: Deployment) -> list[Finding]:
    """Whether the server may write where it must, and has room."""
    del machine
    found = []
    for folder in deployment.folders:
        text = f"{folder.name}: {folder.path}, {folder.free_gb:.0f} GB free"
        if not folder.is_writable:
            remedy = f"let the server's user write to {folder.path}"
            found.append(fail("disk", f"{text}, not writable", remedy))
        elif folder.free_gb < DISK_GB:
            found.append(warn("disk", text, "a checkpoint has up to 14 GB; free some"))
        else:
            found.append(ok("disk", text))
    return found


def check_checkpoints(machine: Machine, deployment: Deployment) -> list[Finding]:
    """What `config check --checkpoints` knows of the weights."""
    del machine
    judge = {
        "note": lambda text: ok("checkpoint", text),
        "warning": lambda text: warn("checkpoint", text, "docs/checkpoints.md"),
        "error": lambda text: fail("checkpoint", text, "openpi-flash inspect-checkpoint DIR"),
    }
    return [judge[note.severity](f"{note.slot}: {note.text}") for note in deployment.checkpoints]


CHECKS: Sequence[Check] = (
    check_system,
    check_versions,
    check_gpu,
    check_memory,
    check_buffers,
    check_limits,
    check_clock,
    check_configuration,
    check_ports,
    check_keys,
    check_certificate,
    check_folders,
    check_checkpoints,
)
"""All of them, in the order of the report."""


def examine(machine: Machine, deployment: Deployment) -> list[Finding]:
    """All findings about a machine and what is to run on it."""
    return [finding for check in CHECKS for finding in check(machine, deployment)]


def _number(version: str) -> int:
    head = version.partition(".")[0]
    return int(head) if head.isdigit() else 0


OURS = ("openpi_flash_server", "openpi_flash_models", "flash_transport")
CUDA_PLUGINS = {"jax-cuda13-plugin": 580, "jax-cuda12-plugin": 525}
"""JAX's packages for CUDA, and the oldest driver that each works with (JAX's installation page)."""
BUFFER_WANTED = 8 * 1024 * 1024
BUFFER_NEEDED = 2 * 1024 * 1024
"""What the transport asks for, and below which it warns (docs/network.md)."""
FILES_WANTED = 4096
MODEL_GB = 8
"""3.2 billion bfloat16 parameters and 0.1 billion in float32 are 7 GB."""
DISK_GB = 20
EXPIRES_SOON_DAYS = 14
BUILT_AFTER = 1_767_225_600.0
"""2026-01-01: no clock that is right shows an earlier time."""
_DAY = 86_400.0
