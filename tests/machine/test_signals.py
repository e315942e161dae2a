"""Signals: interrupt, wait for shielded steps, are never lost, answered before and after the work."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from liif_cli.machine import signals
from liif_cli.machine.files import OutputFile

if sys.platform == "win32":
    pytest.skip("signals of POSIX", allow_module_level=True)


def python(code: str) -> "subprocess.CompletedProcess[str]":
    """In a process of its own: the timer of signals is one for each process, and pytest may have it."""
    start = "import os, signal, sys, time\nfrom liif_cli.machine import signals\n"
    return subprocess.run([sys.executable, "-c", start + code], capture_output=True, text=True)


def test_an_interrupt_that_gets_lost_is_raised_again() -> None:
    done = python("""
class Interrupting:
    def __del__(self):
        signal.raise_signal(signal.SIGTERM)
end = time.monotonic() + 20
try:
    with signals.interruptible():
        Interrupting()
        print("lost")
        while time.monotonic() < end:
            pass
except KeyboardInterrupt:
    print("raised", time.monotonic() < end, signals.was_interrupted())
print(signal.getitimer(signal.ITIMER_REAL), signal.getsignal(signal.SIGALRM) is signal.SIG_DFL)
""")
    assert (done.stdout, done.stderr) == ("lost\nraised True True\n(0.0, 0.0) True\n", "")


def test_one_that_is_answered_is_not_raised_again() -> None:
    """However long cleaning up takes."""
    done = python("""
with signals.interruptible():
    try:
        signal.raise_signal(signal.SIGTERM)
    except KeyboardInterrupt:
        time.sleep(3 * signals.PATIENCE)
        print("cleaned")
""")
    assert (done.stdout, done.stderr, done.returncode) == ("cleaned\n", "", 0)


def test_other_errors_of_a_del_are_told(capfd: pytest.CaptureFixture[str]) -> None:
    class Failing:
        def __del__(self) -> None:
            raise ValueError("told")

    hook = sys.unraisablehook
    sys.unraisablehook = lambda unraisable: print(unraisable.exc_value, file=sys.stderr)
    try:
        with signals.interruptible():
            Failing()
    finally:
        sys.unraisablehook = hook
    assert capfd.readouterr().err == "told\n"


def test_an_interrupt_that_left_exec_does_not_change_how_the_process_ends() -> None:
    """CPython ends by SIGINT behind a plain KeyboardInterrupt there."""
    done = python("""
with signals.interruptible():
    try:
        exec("signal.raise_signal(signal.SIGTERM)")
    except KeyboardInterrupt:
        pass
sys.exit(130)
""")
    assert (done.returncode, done.stderr) == (130, "")


def test_behind_the_work_its_code_counts() -> None:
    """To the last moment: a signal that comes in an exit function, and one that comes behind all of them."""
    for late in ("True", "False"):
        done = python(f"""
import atexit
class Late:
    def __del__(self, kill=signal.raise_signal): kill({signal.SIGTERM:d})
signals.ignore_at_the_end()
signals.end_with(5)
if {late}:
    sys.late = Late()
else:
    atexit.register(signal.raise_signal, {signal.SIGTERM:d})
sys.exit(5)
""")
        assert (done.returncode, done.stderr) == (5, ""), late


def test_what_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals.interruptible():
            signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_step_that_is_held_is_not_cut_in_half() -> None:
    steps = []
    with pytest.raises(KeyboardInterrupt), signals.interruptible(), signals.shielded():
        with signals.shielded():
            signal.raise_signal(signal.SIGINT)
            steps.append("inner")
        steps.append("outer")
    assert steps == ["inner", "outer"]


def test_another_thread_holds_nothing_back() -> None:
    started, over = threading.Event(), threading.Event()

    def hold() -> None:
        with signals.shielded():
            started.set()
            over.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    started.wait(20)
    try:
        with pytest.raises(KeyboardInterrupt), signals.interruptible():
            signal.raise_signal(signal.SIGINT)
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("step", ["open", "fsync", "unlink"])
def test_an_interrupt_within_a_file_s_first_or_last_step_leaves_nothing(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where, real = (Path, Path.unlink) if step == "unlink" else (os, getattr(os, step))

    def interrupted(*arguments: object, **options: object) -> object:
        done = real(*arguments, **options)
        signal.raise_signal(signal.SIGTERM)
        return done

    with pytest.raises(KeyboardInterrupt), signals.interruptible():
        monkeypatch.setattr(where, step, interrupted)
        with OutputFile(tmp_path / "a") as temporary:
            temporary.write_bytes(b"new")
    monkeypatch.undo()
    left = [path.name for path in tmp_path.iterdir()]
    assert left == ([] if step == "open" else ["a"])
