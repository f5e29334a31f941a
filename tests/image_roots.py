"""Carries out the steps of the server's image in plain folders, where there is no Docker.

Debian's root stands in for the base image, this machine's Rust for the image of Rust. Everything
else is as the Dockerfile says: each COPY from the files that would be sent, each RUN in order with
its ENV, ARG and WORKDIR; then the first start, the health check and the stop as the image's user.
`scripts/test-images` calls it, as root.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from dockerfile import Instruction, Stage, expand, is_sent, read_stages, with_bases

CHECKOUT = Path(__file__).resolve().parents[1]
FILE = CHECKOUT / "docker/server.Dockerfile"
RULES = FILE.with_name(f"{FILE.name}.dockerignore").read_text()
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

AUTHORITIES = "/etc/machine-authorities.crt"
"""A file of those that this machine trusts; only steps of the build are told of it."""

NOT_RUN = (
    "docker itself: BuildKit's parser (hadolint has one of its own), layers, cache mounts, volumes",
    "the base image with NVIDIA's settings, and Ubuntu's packages (Debian's stand in for them)",
    "a GPU: the server's program ran on the CPU",
    "docker/robot.Dockerfile: ROS's packages come from an archive of their own",
    "prepare-checkpoint and prepare-planner-checkpoint, which download 14 GB",
)

DEMO = """{"action": {"model_config_name": "pi05_sim_arm", "checkpoint_dir": "/data/demo/action"},
 "planner": {"checkpoint_dir": "/data/demo/planner", "schedule": "background"},
 "host": "127.0.0.1"}"""


@dataclass
class Root:
    """A folder that stands for the file system of an image, and what its instructions set."""

    folder: Path
    variables: dict[str, str] = field(default_factory=lambda: {"PATH": PATH, "HOME": "/root"})
    arguments: dict[str, str] = field(default_factory=dict)
    directory: str = "/"
    user: str = "0:0"

    def at(self, path: str) -> Path:
        """Where a path of the image is on this machine."""
        return self.folder / str(Path("/", self.directory, path)).lstrip("/")

    def command(self, words: list[str]) -> list[str]:
        """How to run a command in it: with devices, processes and mounts of its own."""
        inside = shlex.join(["env", "-i", *(f"{n}={v}" for n, v in self.variables.items()), *words])
        devices = shlex.quote(f"{self.folder}/dev")
        enter = [
            # a package's script that changes a device must not change this machine's
            f"mount -t tmpfs tmpfs {devices}",
            *(
                f"mknod -m 666 {devices}/{name} c 1 {minor}"
                for name, minor in (("null", 3), ("zero", 5), ("full", 7), ("urandom", 9))
            ),
            f"ln -s urandom {devices}/random",
            f"ln -s /proc/self/fd {devices}/fd",
            f"mkdir -m 1777 {devices}/shm",
            f"mount -t proc proc {self.folder}/proc",
            f"exec chroot --userspec={self.user} {self.folder} "
            f"sh -c {shlex.quote(f'cd {self.directory} && exec {inside}')}",
        ]
        return [
            "unshare",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "sh",
            "-c",
            " && ".join(enter),
        ]


class Build:
    """Carries out the stages of the Dockerfile.

    Args:
        folder: where the roots are made; holds `debian`.
        arguments: as of `--build-arg`.
    """

    def __init__(self, folder: Path, arguments: dict[str, str]) -> None:
        self._folder = folder
        self._arguments = arguments
        self._stages = {stage.name: stage for stage in read_stages(FILE.read_text(), arguments)}
        self._roots: dict[str, Root] = {}
        self._sent = folder / "context"
        self.steps = 0

    def send(self) -> None:
        """Copies what the .dockerignore lets through."""
        shutil.rmtree(self._sent, ignore_errors=True)
        listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(listing, cwd=CHECKOUT, stdout=subprocess.PIPE, check=True).stdout
        for name in sorted(filter(None, names.decode().split("\0"))):
            # a link stays one: where it points to must be sent and copied, too
            if is_sent(name, RULES) and os.path.lexists(CHECKOUT / name):
                (self._sent / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(CHECKOUT / name, self._sent / name, follow_symlinks=False)

    def root(self, name: str) -> Root:
        """The file system of a stage; carried out the first time it is asked for."""
        if name not in self._roots:
            self._roots[name] = self._carry_out(self._stages[name])
        return self._roots[name]

    def _carry_out(self, stage: Stage) -> Root:
        folder = self._folder / stage.name
        shutil.rmtree(folder, ignore_errors=True)
        if stage.base.startswith("rust:"):
            root = Root(folder)
            copy_toolchain(folder)
        elif stage.base in self._stages:
            below = self.root(stage.base)
            copy_tree(below.folder, folder)
            root = Root(folder, dict(below.variables), {}, below.directory, below.user)
        else:
            copy_tree(self._folder / "debian", folder)
            give_machine_settings(folder)
            root = Root(folder)
        for instruction in stage.instructions:
            self._step(root, instruction, stage)
        return root

    def _step(self, root: Root, step: Instruction, stage: Stage) -> None:
        self.steps += 1
        say(f"{stage.name}, line {step.line}: {step.word} {step.text[:100]}")
        if step.word == "ENV":
            for word in step.words:
                name, _, value = word.partition("=")
                root.variables[name] = expand(value, root.variables)
        elif step.word == "ARG":
            name, _, default = step.text.partition("=")
            root.arguments[name] = self._arguments.get(name, " ".join(shlex.split(default)))
        elif step.word == "WORKDIR":
            root.directory = step.text
            root.at(".").mkdir(parents=True, exist_ok=True)
        elif step.word == "USER":
            root.user = step.text
        elif step.word == "COPY":
            self._copy(root, step)
        elif step.word == "RUN":
            settings = [f"{name}={value}" for name, value in root.arguments.items()]
            words = ["env", *settings, *machine_variables(), "sh", "-c", step.text]
            subprocess.run(root.command(words), stdin=subprocess.DEVNULL, check=True)

    def _copy(self, root: Root, step: Instruction) -> None:
        *sources, to = step.words
        source_root = self.root(step.flags["from"]).folder if "from" in step.flags else self._sent
        for name in sources:
            source = source_root / name.lstrip("/")
            target = root.at(to)
            if source.is_dir():
                copy_tree(source, target)
            else:
                target = target / source.name if to.endswith("/") else target
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target)


class Container:
    """Starts the image as `docker run` would, checks its health and stops it.

    Args:
        image: its last stage, with those below it.
        root: its file system.
    """

    def __init__(self, image: Stage, root: Root) -> None:
        self._image = image
        self._root = root

    def run(self, *arguments: str) -> None:
        """Runs one command to its end."""
        subprocess.run(self._root.command([*self._entrypoint, *arguments]), check=True)

    def serve(self, patience: float) -> float:
        """Starts it, waits until it is healthy and stops it; returns the s that it took to be so.

        Raises:
            RuntimeError: it ended, is not healthy in time, or did not end well.
        """
        started = time.monotonic()
        command = [*self._entrypoint, *self._image.last("CMD").array]
        server = subprocess.Popen(self._root.command(command))
        try:
            while self._health() != 0:
                if server.poll() is not None:
                    raise RuntimeError(f"the server ended with code {server.returncode}")
                if time.monotonic() - started > patience:
                    raise RuntimeError(f"not healthy after {patience:.0f} s")
                time.sleep(1)
            healthy = time.monotonic() - started
            self.run("ping", "127.0.0.1")
            stop(server)
            code = server.wait(timeout=20)
            if code != 0:
                raise RuntimeError(f"docker stop: exit code {code}, expected 0")
            return healthy
        finally:
            if server.poll() is None:
                server.kill()
                server.wait()

    @property
    def _entrypoint(self) -> list[str]:
        return self._image.last("ENTRYPOINT").array

    def _health(self) -> int:
        check = self._image.last("HEALTHCHECK").text.removeprefix("CMD ")
        command = self._root.command(Instruction("CMD", {}, check, 0).array)
        return subprocess.run(command, check=False).returncode


def stop(server: subprocess.Popen[bytes]) -> None:
    """Signals the first process of the image, as `docker stop` does, and not who started it."""
    (child,) = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    os.kill(int(child), signal.SIGTERM)


def copy_tree(source: Path, target: Path) -> None:
    """Copies a folder's contents with owners and links."""
    target.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-a", "--reflink=auto", f"{source}/.", f"{target}/"], check=True)


def copy_toolchain(folder: Path) -> None:
    """This machine's Rust in the places where the image of Rust has it."""
    sysroot = subprocess.run(
        ["rustc", "--print", "sysroot"], stdout=subprocess.PIPE, text=True, check=True
    )
    toolchain = Path(sysroot.stdout.strip())
    (folder / "usr/local/rustup").mkdir(parents=True)
    cargo = folder / "usr/local/cargo"
    cargo.mkdir(parents=True)
    for part in ("bin", "lib"):
        copy_tree(toolchain / part, cargo / part)


def give_machine_settings(folder: Path) -> None:
    """What an engine or its proxy settings give a build: names, mirrors and authorities."""
    for name in (
        "etc/resolv.conf",
        "etc/hosts",
        "etc/pip.conf",
        "etc/uv",
    ):
        source, target = Path("/", name), folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        elif source.is_file():
            shutil.copy(source, target)
    # beside Debian's own, which its package writes
    authorities = os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt")
    shutil.copy(authorities, folder / AUTHORITIES.lstrip("/"))


def machine_variables() -> list[str]:
    """Proxies and authorities of this machine, which a build gets as `--build-arg`."""
    names = ("http_proxy", "https_proxy", "no_proxy")
    found = [f"{name}={os.environ[name]}" for name in names if os.environ.get(name)]
    programs = ("SSL_CERT_FILE", "PIP_CERT", "CARGO_HTTP_CAINFO")
    return [*found, *(f"{name}={AUTHORITIES}" for name in programs)]


def say(text: str) -> None:
    """Prints a line at once."""
    sys.stdout.write(f"==> {text}\n")
    sys.stdout.flush()


def in_own_network(arguments: list[str]) -> None:
    """Starts this program again where only loopback exists: no port is in anybody's way."""
    again = shlex.join([sys.executable, "-B", "-m", "image_roots", "--start-only", *arguments])
    command = ["unshare", "--net", "sh", "-c", f"ip link set lo up && exec {again}"]
    subprocess.run(command, check=True)


def start(image: Stage, root: Root) -> None:
    """The first start and those after it, as the image's user."""
    config = root.at(root.variables["INFERENCE_CONFIG_PATH"])
    config.parent.mkdir(parents=True, exist_ok=True)
    container = Container(image, root)
    container.run("make-demo-checkpoint", "/data/demo")
    config.write_text(DEMO)
    for which in ("first", "second"):
        say(f"{which} start: healthy after {container.serve(patience=900):.0f} s, stopped with 0")
    certificates = sorted(path.name for path in root.at("/state").iterdir())
    say(f"/state holds {', '.join(certificates)}")


def main() -> None:
    """Builds and starts the image."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--extras", default="otel")
    parser.add_argument("--start-only", action="store_true")
    options = parser.parse_args()
    folder = options.folder.resolve()
    arguments = {"BASE": "debian:bookworm", "EXTRAS": options.extras}
    image = with_bases(read_stages(FILE.read_text(), arguments), "server")
    if options.start_only:
        root = Root(folder / "server")
        settings = Build(folder, arguments)
        for step in image.instructions:
            if step.word in {"ENV", "USER", "WORKDIR"}:
                settings._step(root, step, image)
        start(image, root)
        return
    build = Build(folder, arguments)
    build.send()
    build.root("server")
    say(f"built: {build.steps} steps")
    in_own_network(["--folder", str(folder), "--extras", options.extras])
    say("not run here:")
    for text in NOT_RUN:
        say(f"    {text}")


if __name__ == "__main__":
    main()
