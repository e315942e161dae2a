"""A share of the faults by the real command; `python -m tests.robustness faults` runs all of them, at many moments."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

if sys.platform == "win32":
    pytest.skip("limits and signals of POSIX", allow_module_level=True)

import resource

import forked
from robustness import faults
from robustness.faults import Desk, said


@pytest.fixture
def bench() -> Iterator[Desk]:
    with Desk.new() as desk:
        yield desk


@pytest.fixture
def quick() -> Iterator[Desk]:
    """One whose commands start at once, since their start is not what is tested."""
    with Desk.new(forked.start) as desk:
        yield desk


def test_a_full_disk_is_code_4_and_the_old_output_stays(quick: Desk) -> None:
    out = quick.path("out.png")
    out.write_bytes(b"old")
    said(quick.call(*quick.upscale(), "--overwrite", limits={resource.RLIMIT_FSIZE: 400}), (4,), "too large")
    assert out.read_bytes() == b"old" and not quick.hidden()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_stream_is_code_4(quick: Desk) -> None:
    with Path("/dev/full").open("wb") as full:
        said(quick.call(*quick.upscale("in.png", "-", "--format", "png"), stdout=full), (4,), "cannot write")
    with Path("/dev/full").open("wb") as full:
        said(quick.call("upscale", "--help", stdout=full), (4,), "cannot write")


@pytest.mark.skipif(sys.platform != "linux", reason="the limit of the address space is Linux's")
def test_too_little_memory_for_the_libraries_is_code_7(bench: Desk) -> None:
    faults.little_memory(bench, 3)


@pytest.mark.skipif(sys.platform != "linux", reason="the limit of the address space is Linux's")
@pytest.mark.parametrize("mib", [100, 130, 140, 160])
def test_no_library_ends_the_process_itself(bench: Desk, mib: int) -> None:
    """OpenBLAS ended it with code 1, GLib by a signal, and libvips and a thread that did not start were bugs."""
    ran = bench.call(*bench.upscale(), limits={resource.RLIMIT_AS: mib << 20})
    said(ran, (7,), "out of memory")
    said(bench.call("--version", limits={resource.RLIMIT_AS: mib << 20}), (0,))


@pytest.mark.slow
def test_few_descriptors_lose_nothing(bench: Desk) -> None:
    faults.few_descriptors(bench, 2)


@pytest.mark.slow
def test_a_batch_survives_images_that_change(bench: Desk) -> None:
    faults.input_replaced(bench)


@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in /proc")
def test_a_signal_while_the_program_is_loaded_is_code_130_and_silent(bench: Desk) -> None:
    told = faults.anywhere(bench, 4, 1, 200_000, "--help")
    assert len(told) == 4 and all((each["code"], each["said"]) == (130, "") for each in told), told


@pytest.mark.skipif(sys.platform != "linux", reason="handlers are seen in /proc")
def test_before_the_program_has_begun_signals_are_the_interpreter_s(bench: Desk) -> None:
    """Which the scripts tell apart."""
    import signal

    process = bench.start(command=[sys.executable, "-c", "import time; print(1, flush=True); time.sleep(60)"])
    assert process.stdout is not None and process.stdout.readline()
    assert not faults.begun(process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == -signal.SIGTERM


def test_a_failure_says_why() -> None:
    def failing(desk: Desk) -> None:
        assert desk.hidden() == ["something"]

    assert faults.tried(failing).endswith('assert desk.hidden() == ["something"]')


def test_a_signal_leaves_the_old_output_or_a_whole_one(bench: Desk) -> None:
    faults.interrupted(bench, 4)
