"""Fixtures for all tests: the shared material, a tiny model, an empty desk and the command line."""

import gc
import os
import signal
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from ran import Ran
from tiny_models import golden_model, tiny_config

from liif_cli.cli import app
from liif_cli.models.checkpoints import save_model
from liif_cli.models.model import SRModel

SHARED = Path(
    os.environ.pop("LIIF_SHARED", Path(__file__).parents[2] / "shared")
)  # the program warns of such variables

# A shell's background jobs ignore Ctrl-C, and so would every process that the tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
torch.set_num_threads(1)  # the models are tiny: threads would only wait for one another
app.command = cache(app.command)  # a process builds it once, and the tests call it a thousand times


def pytest_collection_finish() -> None:
    """Libraries and tests are loaded: no collection of garbage has to look through them again."""
    gc.freeze()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of benchmarks and golden outputs: LIIF_SHARED, or `shared` beside the checkout."""
    folder = SHARED
    if not folder.is_dir():
        pytest.skip("the shared folder is not here (set LIIF_SHARED)")
    return folder


@pytest.fixture(scope="session")
def tiny() -> SRModel:
    """A tiny EDSR-LIIF with random but fixed parameters, in evaluation mode."""
    return golden_model(tiny_config())


@pytest.fixture(scope="session")
def tiny_file(tiny: SRModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model as a checkpoint file, `tiny.safetensors`."""
    path = tmp_path_factory.mktemp("models") / "tiny.safetensors"
    save_model(tiny, path, licence="CC0-1.0", provenance={})
    return path


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder as the current one, no settings of the user's and no variables of ours."""
    for name in [name for name in os.environ if name.startswith("LIIF_")]:
        monkeypatch.delenv(name)
    for name in ("HOME", "USERPROFILE", "APPDATA", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    (tmp_path / "desk").mkdir()
    monkeypatch.chdir(tmp_path / "desk")
    return tmp_path / "desk"


@pytest.fixture
def liif(desk: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Runs the command line in this process, on the desk."""

    def call(*arguments: object) -> Ran:
        capfd.readouterr()
        code = app.run([str(argument) for argument in arguments])
        said = capfd.readouterr()
        return Ran(code, said.out.splitlines(), said.err.splitlines())

    return call
