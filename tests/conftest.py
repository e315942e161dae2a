"""What the tests share: where the shared material is, tiny models, and weights that are a formula."""

import hashlib
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from liif_cli.cli import app
from liif_cli.models.checkpoints import save_model
from liif_cli.models.decoders.liif import LIIFConfig
from liif_cli.models.encoders.edsr import EDSRConfig
from liif_cli.models.encoders.rdn import RDNConfig
from liif_cli.models.model import SRModel
from liif_cli.models.registry import ModelConfig

SHARED = Path(
    os.environ.pop("LIIF_SHARED", Path(__file__).parents[2] / "shared")
)  # the program warns of such variables

# A shell's background jobs ignore Ctrl-C, and so would every process that the tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
torch.set_num_threads(1)  # the models are tiny: threads would only wait for one another


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of benchmarks and golden outputs: LIIF_SHARED, or `shared` beside the checkout."""
    folder = SHARED
    if not folder.is_dir():
        pytest.skip("the shared folder is not here (set LIIF_SHARED)")
    return folder


def formula(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """The parameter NAME of the golden models: a formula of its name, so that no weights file is needed."""
    generator = np.random.default_rng(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big"))
    scale = 0.05 if len(shape) < 2 else 1 / np.sqrt(np.prod(shape[1:]))
    return torch.from_numpy((generator.standard_normal(shape) * scale).astype(np.float32))


def golden_model(config: ModelConfig) -> SRModel:
    """A model whose parameters are the formula of their names."""
    with torch.device("meta"):
        names = SRModel(config).export()
    return SRModel.from_tensors(config, {name: formula(name, tuple(t.shape)) for name, t in names.items()}).eval()


def tiny_config(encoder: str = "edsr", **decoder: object) -> ModelConfig:
    """A model of a few thousand parameters with every part of a real one."""
    small = (
        EDSRConfig(features=8, blocks=2) if encoder == "edsr" else RDNConfig(features=8, blocks=2, layers=2, growth=4)
    )
    return ModelConfig(small, LIIFConfig(**({"hidden": (16, 16)} | decoder)))  # type: ignore[arg-type]


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


@dataclass(frozen=True)
class Ran:
    """What became of a command: its exit code, and the lines on standard output and standard error."""

    code: int
    out: list[str]
    err: list[str]


@pytest.fixture
def liif(desk: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Runs the command line in this process, on the desk."""

    def call(*arguments: object) -> Ran:
        capfd.readouterr()
        code = app.run([str(argument) for argument in arguments])
        said = capfd.readouterr()
        return Ran(code, said.out.splitlines(), said.err.splitlines())

    return call
