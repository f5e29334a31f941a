"""The scripts answer their arguments before they set anything up, and set up one at a time."""

from __future__ import annotations

import mmap
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

USERS_SCRIPTS = (
    "bench",
    "check-wheel",
    "demo",
    "lint",
    "ros-release",
    "setup",
    "site",
    "stress",
    "test",
    "test-hostile",
    "test-images",
    "test-infra",
    "test-kilted",
    "test-ray",
    "test-versions",
    "train-demo",
    "version",
)

WRONG = [
    ("bench", "--blocks", "0"),
    ("bench", "--nonsense"),
    ("check-wheel", "--nonsense"),
    ("demo", "--nonsense"),
    ("demo", "--seconds", "soon"),
    ("demo", "--transport", "pigeon"),
    ("lint", "--nonsense"),
    ("ros-release", "--nonsense"),
    ("setup", "demo", "all"),
    ("setup", "everything"),
    ("site", "--nonsense"),
    ("stress", "--nonsense"),
    ("stress", "--rounds"),
    ("stress", "--rounds", "0"),
    ("stress", "--seed", "-1"),
    ("test", "--nonsense"),
    ("test", "--seed", "x"),
    ("test", "rust", "pyhton"),
    ("test-hostile", "--nonsense"),
    ("test-hostile", "--rounds", "0"),
    ("test-images", "--nonsense"),
    ("test-images", "--keep"),
    ("test-infra", "--nonsense"),
    ("test-infra", "--without-tflint", "--nonsense"),
    ("test-kilted", "--nonsense"),
    ("test-ray", "--nonsense"),
    ("test-versions", "3.9"),
    ("train-demo", "--nonsense"),
    ("train-demo", "--seed", "one"),
    ("train-demo", "runs/a", "runs/b"),
    ("version", "--nonsense"),
]


@pytest.fixture
def checkout(tmp_path):
    """A checkout without anything that a set-up makes."""
    for path in (
        "Cargo.toml",
        "examples/demo/arguments.py",
        "benchmarks/transport_arguments.py",
        *(str(file.relative_to(ROOT)) for file in (ROOT / "scripts").rglob("*") if file.is_file()),
    ):
        copy = tmp_path / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, copy)
    return tmp_path


def run(checkout, script, *arguments):
    before = sorted(checkout.rglob("*"))
    result = subprocess.run(
        [checkout / "scripts" / script, *arguments],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=False,
    )
    assert sorted(checkout.rglob("*")) == before, "the script made or removed files"
    return result


@pytest.mark.parametrize("option", ["--help", "-h"])
@pytest.mark.parametrize("script", USERS_SCRIPTS)
def test_help_is_answered_before_any_set_up(checkout, script, option):
    result = run(checkout, script, option)
    assert (result.returncode, result.stderr) == (0, "")
    assert f"usage: scripts/{script}" in result.stdout


@pytest.mark.parametrize("words", WRONG, ids=" ".join)
def test_a_wrong_argument_is_named_before_any_set_up(checkout, words):
    script, *arguments = words
    result = run(checkout, script, *arguments)
    assert result.returncode == 2
    assert result.stdout == ""
    assert "error: " in result.stderr
    assert any(argument in result.stderr for argument in arguments)
    assert f"usage: scripts/{script}" in result.stderr


def test_every_script_that_users_run_is_tested_here():
    executable = {
        file.name
        for file in (ROOT / "scripts").iterdir()
        if file.is_file() and os.access(file, os.X_OK)
    }
    # needs root and qemu; its arguments are two words
    assert executable - {"arm-python"} == set(USERS_SCRIPTS)


SET_UP = """
set -euo pipefail
source scripts/lib/setup.sh
setup_system() { :; }
setup_rust() { :; }
setup_uv() { :; }
setup_ros() { :; }
setup_python() { %s; }
setup all
say "ready"
"""


def start_set_up(checkout, body):
    """Start a set-up that does nothing but one thing, and that signals end."""
    # a test run in the background may ignore them, which a shell could not undo
    heeding = ["env", "--default-signal=INT,TERM,HUP"]
    return subprocess.Popen(
        [*heeding, "bash", "-c", SET_UP % body],
        cwd=checkout,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def test_the_environment_keeps_the_python_that_it_was_made_with(checkout, tmp_path):
    # uv makes the environment anew for another one, under the feet of what runs in it
    own = tmp_path / "python3.12"
    own.write_text("#!/bin/sh\necho its own\n")
    own.chmod(0o755)
    (checkout / ".venv").mkdir()
    (checkout / ".venv/pyvenv.cfg").write_text(f"home = {tmp_path}\nversion_info = 3.12.7\n")
    program = "set -u; source scripts/lib/setup.sh; python_at_least_311() { :; }; find_python; "
    done = subprocess.run(
        ["bash", "-c", program + 'echo "$PYTHON"'],
        cwd=checkout,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert done.stdout == "its own\n"


def test_a_second_set_up_waits_for_the_first_and_says_so(checkout):
    first = start_set_up(checkout, "echo first begins; read -r; touch first_is_done")
    assert first.stdout.readline() == "first begins\n"
    second = start_set_up(checkout, "test -e first_is_done && echo first was done")
    assert second.stdout.readline() == (
        f"==> another script sets up this checkout (process {first.pid}): "
        "waiting until it has finished\n"
    )
    output, _ = first.communicate("go on\n", timeout=60)
    assert output == "==> ready\n"
    output, _ = second.communicate(timeout=60)
    assert output == "first was done\n==> ready\n"
    assert (first.returncode, second.returncode) == (0, 0)


def test_the_lock_of_a_set_up_that_was_killed_is_free(checkout):
    first = start_set_up(checkout, "echo first begins; read -r")
    assert first.stdout.readline() == "first begins\n"
    first.kill()
    first.communicate()
    second = start_set_up(checkout, ":")
    output, _ = second.communicate(timeout=60)
    assert output == "==> ready\n"


def test_what_runs_after_the_set_up_does_not_hold_its_lock(checkout):
    program = SET_UP.replace('say "ready"', "exec cat") % ":"
    demo = subprocess.Popen(
        ["bash", "-c", program], cwd=checkout, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    demo.stdin.write(b"the demo runs\n")
    demo.stdin.flush()
    assert demo.stdout.readline() == b"the demo runs\n"
    second = start_set_up(checkout, ":")
    output, _ = second.communicate(timeout=60)
    assert output == "==> ready\n"
    demo.communicate()


# a terminal sends Ctrl-C to the script and to what it waits for, others end the script alone
@pytest.mark.parametrize(
    ("send", "how"),
    [(os.kill, signal.SIGTERM), (os.kill, signal.SIGHUP), (os.killpg, signal.SIGINT)],
    ids=["ended", "hung up", "Ctrl-C"],
)
def test_a_set_up_that_is_ended_takes_its_command_with_it(checkout, send, how):
    started = checkout / "started"
    os.mkfifo(started)
    first = start_set_up(checkout, "logged building bash -c 'echo yes >started; exec sleep 600'")
    assert started.read_text() == "yes\n"
    send(first.pid, how)
    first.communicate(timeout=60)
    # as the command inherits the lock, it has ended once another has it
    second = start_set_up(checkout, ":")
    output, _ = second.communicate(timeout=60)
    assert output == "==> ready\n"


def test_only_shared_memory_that_nobody_maps_is_given_back(tmp_path):
    """A node that was killed leaves its segments; those of a node that runs are mapped."""
    old = {name: tmp_path / name for name in ("fastrtps_dead", "sem.fastdds_dead", "fastdds_used")}
    new, foreign = tmp_path / "fastrtps_new", tmp_path / "of_another_program"
    for file in (*old.values(), new, foreign):
        file.write_bytes(bytes(mmap.PAGESIZE))
    for file in (*old.values(), foreign):
        os.utime(file, (0, 0))
    with old["fastdds_used"].open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ):
        subprocess.run(
            [
                "bash",
                "-euo",
                "pipefail",
                "-c",
                'source "$1"; drop_shared_memory "$2"',
                "bash",
                str(ROOT / "scripts/lib/shared_memory.sh"),
                str(tmp_path),
            ],
            check=True,
        )
    assert {file.name for file in tmp_path.iterdir()} == {
        "fastdds_used",
        "fastrtps_new",
        "of_another_program",
    }
