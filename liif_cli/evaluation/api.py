"""The public `evaluate`: models on a benchmark, from Python."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from liif_cli.evaluation import evaluate as scoring
from liif_cli.evaluation.benchmarks import Benchmark, find
from liif_cli.evaluation.methods import BASELINES, Method, compared, network, networks
from liif_cli.evaluation.protocols import protocol_named
from liif_cli.evaluation.scores import Row
from liif_cli.machine.precision import Precision
from liif_cli.models.model import SRModel
from liif_cli.models.store import DEFAULT
from liif_cli.rendering.sizes import Cell


def evaluate(
    models: str | Path | SRModel | Sequence[str | Path | SRModel] = DEFAULT,
    dataset: str | Path = "set5",
    *,
    scales: Sequence[float] | None = None,
    protocol: str | None = None,
    baselines: Sequence[str] = BASELINES,
    data_dir: str | Path | None = None,
    device: str = "auto",
    precision: Precision = "fp32",
    cell: str = "raw",
    self_ensemble: bool = False,
) -> list[Row]:
    """Score models on a benchmark, next to baselines. Returns a row per scale and method.

    A row has the mean `psnr` in dB, the mean `ssim`, and `scores` with those of each image.
    models: names, files, Hub references, or loaded models. dataset: "set5", "set14", ..., or a folder or file of images.
    scales: default: those of the set. protocol: one of `protocols.PROTOCOLS`; default: the set's. baselines: of "bicubic",
    "lanczos" and "x4-lanczos". data_dir: the folder of the sets; default: the Hub's cache, then the Hub. The other arguments
    are those of `upscale`.

    Raises `UsageError`, `InputError`, `ModelNotFound`, `CheckpointError`, `DeviceError`.
    """
    given = [models] if isinstance(models, str | Path | SRModel) else list(models)
    shape = Cell.parse(cell)
    methods: list[Method] = []
    for number, model in enumerate(given):
        if isinstance(model, SRModel):
            name = f"model {number + 1}" if len(given) > 1 else "model"
            methods.append(network(model, name, cell=shape, self_ensemble=self_ensemble, precision=precision))
        else:
            methods += networks([str(model)], device, cell=shape, self_ensemble=self_ensemble, precision=precision)
    rows: list[Row] = []
    for found in find(str(dataset), None if data_dir is None else Path(data_dir)):
        measured = protocol_named(protocol or found.protocol)
        rows += scoring.evaluate(compared(methods, measured, baselines), _at(found, scales), protocol=measured)
    return rows


def _at(dataset: Benchmark, scales: Sequence[float] | None) -> Benchmark:
    return dataset if scales is None else replace(dataset, scales=tuple(map(float, scales)))
