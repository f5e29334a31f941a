"""Processes of the demo are named when they die, stopped in order, and never left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from demo.processes import Command, ProcessDiedError, Processes, describe_exit

EXAMPLES = Path(__file__).parent.parent / "examples"


def python(name, program, **options):
    return Command(name, [sys.executable, "-S", "-c", program], **options)


SLEEPS = "import time; print('up', flush=True); time.sleep(600)"
IGNORES_TERM = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "print('up', flush=True); time.sleep(600)"
)


def wait_for(holds, what, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds} s"
        time.sleep(0.01)


def says(path, text):
    return path.exists() and text in path.read_text()


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_the_output_goes_to_a_log_of_its_own(tmp_path):
    with Processes(tmp_path) as processes:
        processes.start(
            python("talker", "import os; print('hello', os.environ['WHO'])", environ={"WHO": "you"})
        )
        wait_for(lambda: processes.has_ended("talker"), "the end of talker")
    assert (tmp_path / "talker.log").read_text() == "hello you\n"
    assert processes.exit_codes == {"talker": 0}


def test_a_process_that_dies_is_named_with_its_last_words(tmp_path):
    with Processes(tmp_path) as processes:
        processes.start(python("steady", SLEEPS))
        processes.start(python("weak", "import sys; print('line of log'); sys.exit(3)"))
        with pytest.raises(ProcessDiedError) as caught:
            wait_for(processes.check, "a death")
    message = str(caught.value)
    assert message.startswith("weak ended with exit code 3; the end of ")
    assert message.endswith("weak.log:\n  | line of log")
    assert processes.exit_codes["weak"] == 3


def test_a_command_that_does_not_exist_is_named(tmp_path):
    with Processes(tmp_path) as processes:
        processes.start(Command("ghost", ["/no/such/program"]))
        with pytest.raises(ProcessDiedError, match=r"cannot start /no/such/program"):
            wait_for(processes.check, "a death")


def test_one_that_ends_with_an_error_is_not_taken_for_done(tmp_path):
    with Processes(tmp_path) as processes:
        processes.start(python("maker", "import sys; sys.exit('no space left')"))
        with pytest.raises(
            ProcessDiedError, match="maker ended with exit code 1(.|\n)*no space left"
        ):
            wait_for(lambda: processes.has_ended("maker"), "the end of maker")


def test_stopping_lets_each_end_by_itself_the_last_started_first(tmp_path):
    order = tmp_path / "order"
    program = (
        "import signal, sys\n"
        "def end(*_):\n"
        f"    open({str(order)!r}, 'a').write(sys.argv[1]); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end); print('up', flush=True); signal.pause()"
    )
    with Processes(tmp_path) as processes:
        for name in ("a", "b", "c"):
            processes.start(Command(name, [sys.executable, "-S", "-c", program, name]))
            wait_for(lambda name=name: says(tmp_path / f"{name}.log", "up"), name)
    assert order.read_text() == "cba"
    assert dict(processes.exit_codes) == {"c": 0, "b": 0, "a": 0}


def test_one_that_will_not_end_is_killed_with_all_that_it_started(tmp_path):
    child = (
        "import subprocess, sys, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        f"p = subprocess.Popen([sys.executable, '-S', '-c', {IGNORES_TERM!r}]);"
        "print('child', p.pid, flush=True); time.sleep(600)"
    )
    with Processes(tmp_path, grace=0.3) as processes:
        processes.start(python("stubborn", child))
        wait_for(lambda: says(tmp_path / "stubborn.log", "up"), "stubborn's child")
        grandchild = int((tmp_path / "stubborn.log").read_text().split("child")[1].split()[0])
        assert is_alive(grandchild)
    assert processes.exit_codes["stubborn"] == 128 + signal.SIGKILL
    wait_for(lambda: not is_alive(grandchild), "the end of the grandchild")


RUNNER = """
import signal, sys, time
from pathlib import Path
sys.path.insert(0, {examples!r})
from demo.processes import Command, Processes
# a shell that starts the tests in the background has them ignore it
signal.signal(signal.SIGINT, signal.default_int_handler)
processes = Processes(Path({logs!r}), grace=0.5)
for name, program in (("polite", {polite!r}), ("stubborn", {stubborn!r})):
    program = "import os; print(os.getpid(), flush=True);" + program
    processes.start(Command(name, [sys.executable, "-S", "-c", program]))
time.sleep(600)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_when_the_demo_itself_is_killed_everything_ends_with_it(tmp_path, how):
    program = RUNNER.format(
        examples=str(EXAMPLES), logs=str(tmp_path), polite=SLEEPS, stubborn=IGNORES_TERM
    )
    runner = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    logs = [tmp_path / "polite.log", tmp_path / "stubborn.log"]
    for log in logs:
        wait_for(lambda log=log: says(log, "up"), log.name)
    pids = [int(log.read_text().split()[0]) for log in logs]
    assert all(map(is_alive, pids))
    runner.send_signal(how)
    runner.communicate(timeout=20)
    wait_for(lambda: not any(map(is_alive, pids)), "the end of both")


def test_a_process_takes_signals_that_the_demo_was_started_to_ignore(tmp_path):
    numbers = (signal.SIGINT, signal.SIGHUP)
    ignored = (
        "import signal;"
        f"print([n for n in {[*map(int, numbers)]} if signal.getsignal(n) == signal.SIG_IGN])"
    )
    before = [signal.signal(number, signal.SIG_IGN) for number in numbers]
    try:
        with Processes(tmp_path) as processes:
            processes.start(python("worker", ignored))
            wait_for(lambda: processes.has_ended("worker"), "the end of worker")
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
    assert (tmp_path / "worker.log").read_text() == "[]\n"


def test_when_a_guard_is_killed_its_process_ends_with_it(tmp_path):
    with Processes(tmp_path) as processes:
        processes.start(python("worker", "import os; print(os.getpid(), flush=True);" + SLEEPS))
        log = tmp_path / "worker.log"
        wait_for(lambda: says(log, "up"), "worker")
        pid = int(log.read_text().split()[0])
        guard = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
        os.kill(guard, signal.SIGKILL)
        wait_for(lambda: not is_alive(pid), "the end of the worker")
        with pytest.raises(ProcessDiedError, match="worker ended with signal SIGKILL"):
            processes.check()


def test_a_name_runs_only_once_at_a_time(tmp_path):
    with Processes(tmp_path) as processes:
        processes.start(python("one", SLEEPS))
        with pytest.raises(ValueError, match="one runs already"):
            processes.start(python("one", SLEEPS))


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "exit code 0"),
        (1, "exit code 1"),
        (-9, "signal SIGKILL"),
        (137, "signal SIGKILL"),
        (255, "exit code 255"),
    ],
)
def test_an_exit_code_is_described_in_words(code, words):
    assert describe_exit(code) == words
