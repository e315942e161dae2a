"""Ray: how a cluster is divided and what travels, and then two real nodes on this machine."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from liif_cli.errors import ExitCode, InputError, LiifError, Note, OutputError, UsageError
from liif_cli.images.write import write
from liif_cli.rendering.sizes import Scale
from liif_cli.stores.addresses import Address
from liif_cli.stores.objects import Entry
from liif_cli.upscaling.inputs import Source
from liif_cli.upscaling.jobs import resolve
from liif_cli.upscaling.messages import Settings, as_error, as_note, from_error, pack, unpack
from liif_cli.upscaling.options import Options
from liif_cli.upscaling.output_names import Naming
from liif_cli.upscaling.shares import Fleet, Share, share

Run = Callable[..., Any]
GIB = 2**30
SMALL, LARGE = {"CPU": 2.0, "memory": 4.0 * GIB}, {"CPU": 16.0, "memory": 64.0 * GIB}
GPUS = {"CPU": 32.0, "GPU": 4.0, "memory": 128.0 * GIB}


@pytest.mark.parametrize(
    ("nodes", "asked", "memory", "expected"),
    [
        ([SMALL], Fleet(), None, Share(1, 2, 0.0, 4 * GIB)),
        ([SMALL], Fleet(actors=2), None, Share(2, 1, 0.0, 2 * GIB)),
        ([SMALL, LARGE], Fleet(), None, Share(9, 2, 0.0, 4 * GIB)),
        ([SMALL, LARGE], Fleet(), 3 * GIB, Share(9, 2, 0.0, 3 * GIB)),
        ([{"CPU": 1.0, "memory": 1.0 * GIB}] * 2, Fleet(), None, Share(2, 1, 0.0, GIB)),
        ([SMALL, GPUS], Fleet(), None, Share(4, 8, 1.0, 32 * GIB)),
        ([GPUS], Fleet(gpus=0.5), None, Share(8, 4, 0.5, 16 * GIB)),
        ([GPUS], Fleet(gpus=0), None, Share(16, 2, 0.0, 8 * GIB)),
    ],
)
def test_nodes_are_divided_among_actors(nodes: Any, asked: Fleet, memory: int | None, expected: Share) -> None:
    assert share(nodes, asked, memory) == expected


@pytest.mark.parametrize(
    ("nodes", "asked", "memory"),
    [
        ([SMALL], Fleet(actors=3), None),
        ([SMALL], Fleet(gpus=1), None),
        ([SMALL], Fleet(), 5 * GIB),
        ([], Fleet(), None),
    ],
)
def test_actors_that_do_not_fit_are_refused(nodes: Any, asked: Fleet, memory: int | None) -> None:
    with pytest.raises(UsageError):
        share(nodes, asked, memory)


def test_a_task_travels_in_few_bytes() -> None:
    targets = [Scale.parse("2"), Scale.parse("3")]
    address = Address.parse("s3://bucket/in/x/a.jpg")
    source = Source(address, Path("x"), True, Entry(address, 5, "etag"))
    naming = Naming.parse("out", True, "png")
    work = resolve([source, Source(Path("b.jpg"))], targets, naming, Options(), defer=True)
    settings = Settings(None, None, Options(), tuple(targets), Share(1, 1, 0.0, 1))  # type: ignore[arg-type]
    for index, task in enumerate(work.tasks):
        packed = pickle.dumps(pack(index, task, targets))  # type: ignore[arg-type]
        assert len(packed) < 1000
        assert unpack(pickle.loads(packed), settings) == (index, task)


def test_errors_and_notes_survive_the_journey() -> None:
    for error in (InputError("no image", hint="look", argument="page", remedy="page"), OutputError("full")):
        there = as_error(json.loads(json.dumps(from_error(error))))
        assert type(there) is type(error) and vars(there) == vars(error) and str(there) == str(error)
    assert type(as_error(from_error(MemoryError("x")))) is MemoryError
    stray = as_error(from_error(ZeroDivisionError("https://u:secret@h/x")))
    assert (
        type(stray).__name__ == "ZeroDivisionError" and "secret" not in str(stray) and not isinstance(stray, LiifError)
    )
    note = as_note(["the first of 2 pages is read", "page"])
    assert isinstance(note, Note) and note.remedy == "page"


@pytest.fixture
def up(liif: Run, tiny_file: Path) -> Run:
    """Runs `liif upscale -s 2`."""
    return lambda *arguments: liif("upscale", "-s", 2, "-m", tiny_file, *arguments)


def images(count: int, side: int = 12) -> None:
    """Images in `in`, in ten folders."""
    for index in range(count):
        folder = Path("in", str(index % 10))
        folder.mkdir(parents=True, exist_ok=True)
        write(folder / f"{index:04}.png", np.random.default_rng(index).integers(0, 256, (side, side, 3), np.uint8))


def test_without_ray(up: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    images(1)
    ran = up("in", "-r", "-o", "out", "--ray", "auto")
    assert ran.err == ["Error: cannot use Ray: it is not installed", "Hint: pip install 'liif[ray]'"]
    assert ran.code == ExitCode.USAGE
    assert up("-", "-o", "-", "--ray", "auto").code == ExitCode.USAGE
    assert "--actors has no effect without --ray" in up("in", "-r", "-o", "out", "--actors", 2).err[0]


needs_ray = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a Ray cluster of two nodes, each with one CPU."""
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    room = {"num_cpus": 1, "memory": 2 * GIB, "object_store_memory": 100 * 2**20}
    made = Cluster(initialize_head=True, head_node_args={**room, "include_dashboard": False})
    made.add_node(**room)
    yield made.address
    made.shutdown()


def start(*arguments: object) -> "subprocess.Popen[str]":
    """`liif upscale -s 2` in a process of its own."""
    command = [sys.executable, "-m", "liif_cli", "upscale", "-s", "2", *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def outputs() -> dict[str, bytes]:
    """Every file in `out`, hidden ones too."""
    return {path.relative_to("out").as_posix(): path.read_bytes() for path in Path("out").rglob("*") if path.is_file()}


class TestCluster:
    pytestmark = needs_ray

    def test_a_cluster_makes_what_one_machine_makes(self, up: Run, cluster: str) -> None:
        images(40)
        Path("in", "3", "broken.png").write_bytes(b"no image")
        ran = up("in", "-r", "-o", "out", "--ray", cluster, "--json", "--manifest", "m.jsonl")
        assert ran.code == ExitCode.SOME_FAILED and "40 written, 1 failed" in ran.err[-1], ran.err
        rows = [json.loads(line) for line in ran.out]
        assert sorted(row["code"] for row in rows if "code" in row) == [ExitCode.INPUT]
        assert len(rows) == 41 and rows[0]["model"] == "tiny"
        made = outputs()
        assert up("in", "-r", "-o", "plain").code == ExitCode.SOME_FAILED
        Path("out").rename("cluster")
        Path("plain").rename("out")
        assert outputs() == made and len(made) == 40
        Path("out").rename("plain")
        Path("cluster").rename("out")
        Path("out", "3", "0003_2x.png").unlink()
        again = up("in", "-r", "-o", "out", "--ray", cluster, "--manifest", "m.jsonl")
        assert again.out == [str(Path("out", "3", "0003_2x.png"))] and "39 skipped" in again.err[-1], again.err

    def test_500_images_and_a_worker_that_is_killed(self, cluster: str, desk: Path, tiny_file: Path) -> None:
        images(500)
        run = start("in", "-r", "-o", "out", "-m", tiny_file, "--ray", cluster, "--json")
        assert run.stdout is not None
        first = run.stdout.readline()  # both are at work
        victims = [process for process in workers() if process.pid]
        assert victims, "no actor was found"
        victims[0].kill()
        out = run.stdout.read()  # not `communicate`, which would lose what is buffered
        _, err = run.communicate(timeout=60)
        assert run.returncode == 0, err
        rows = [json.loads(line) for line in [first, *out.splitlines()]]
        assert len({row["output"] for row in rows}) == len(rows) == 500
        made = {name: data for name, data in outputs().items() if not Path(name).name.startswith(".")}
        assert len(made) == 500 and all(data.endswith(b"IEND\xaeB`\x82") for data in made.values())

    def test_ctrl_c(self, cluster: str, desk: Path, tiny_file: Path) -> None:
        images(60, side=200)
        run = start("in", "-r", "-o", "out", "-m", tiny_file, "--ray", cluster)
        assert run.stdout is not None and run.stdout.readline()
        run.send_signal(signal.SIGINT)
        _, err = run.communicate(timeout=60)
        assert run.returncode == ExitCode.INTERRUPTED and "interrupted" in err and "Traceback" not in err
        count, whole = len(outputs()), [data.endswith(b"IEND\xaeB`\x82") for data in outputs().values()]
        assert all(whole) and not [name for name in outputs() if Path(name).name.startswith(".")]
        time.sleep(2)
        assert len(outputs()) == count  # nobody goes on

    def test_an_image_that_kills_its_worker(self, up: Run, cluster: str, monkeypatch: pytest.MonkeyPatch) -> None:
        images(6)
        Path("in", "0", "killer.png").write_bytes(Path("in", "0", "0000.png").read_bytes())
        site = Path("site")
        site.mkdir()
        (site / "sitecustomize.py").write_text(KILLER)
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site.resolve()), *filter(None, sys.path)]))
        ran = up("in", "-r", "-o", "out", "--ray", "local", "--actors", 1, "--json")
        rows = [json.loads(line) for line in ran.out]
        assert ran.code == ExitCode.SOME_FAILED, ran.err
        failed = [row for row in rows if "error" in row]
        assert [Path(row["input"]).name for row in failed] == ["killer.png"] and "died" in failed[0]["error"]
        assert len(rows) == 7 and len([name for name in outputs() if name.endswith("_2x.png")]) == 6

    def test_doctor(self, liif: Run, cluster: str) -> None:
        ran = liif("doctor", "--json", "--ray", cluster)
        found = json.loads(ran.out[0])
        assert found["ray"]["nodes"] == "2" and found["ray"]["share"].startswith("2 actors, each of 1 CPUs, ")
        nodes = [facts for name, facts in found.items() if name.startswith("node ")]
        assert [facts["cpus"] for facts in nodes] == ["1", "1"] and all("torch" in facts for facts in nodes)

    def test_a_cluster_that_is_not_there(self, up: Run, cluster: str) -> None:
        images(1)
        ran = up("in", "-r", "-o", "out", "--ray", "127.0.0.1:1")
        assert ran.code == ExitCode.DEVICE and "cannot reach a Ray cluster at 127.0.0.1:1" in ran.err[0]
        assert up("in", "-r", "-o", "out", "--ray", cluster, "--actors", 9).code == ExitCode.USAGE


KILLER = """
import os
import sys
import threading
from pathlib import Path

real = Path.open

def killing(self, *arguments, **options):
    if self.name == "killer.png":
        import traceback
        if any("liif-read" in thread.name for thread in [threading.current_thread()]):
            os.kill(os.getpid(), 9)
    return real(self, *arguments, **options)

Path.open = killing
"""


def workers() -> list[Any]:
    """The processes of actors that hold a model."""
    import psutil

    return [each for each in psutil.process_iter() if "ray::MapWorker" in " ".join(cmdline(each))]


def cmdline(process: Any) -> list[str]:
    """Empty if it is gone."""
    import psutil

    try:
        return list(process.cmdline())
    except psutil.Error:
        return []
