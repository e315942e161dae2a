"""A model as ONNX graphs, for runtimes other than PyTorch.

`encoder.onnx` converts an image to the decoder's input; `decoder.onnx` gives colours at any positions; with some decoders,
`x4.onnx` (or another whole number) does both for one scale. Sizes are dynamic; the batch is one image. Each graph implements
the network a second time, and the tests compare the two.
"""

import copy
import json
import logging
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from liif_cli import __version__
from liif_cli.errors import OutputError, UsageError
from liif_cli.machine.files import check_target, write_bytes
from liif_cli.models.checkpoints import Checkpoint
from liif_cli.models.decoders.fourier import Fourier, FourierField
from liif_cli.models.decoders.liif import LIIF
from liif_cli.models.model import SRModel
from liif_cli.models.schema import to_dict

OPSET = 18
LARGEST_SCALE = 16
OUTPUTS = {"encoder": "codes", "decoder": "rgb"}
SIDES = {
    "height": torch.export.Dim("height"),
    "width": torch.export.Dim("width"),
    "queries": torch.export.Dim("queries"),
}


class Graph(nn.Module):
    """A network that is exported, made of a model's parts."""

    def __init__(self, model: SRModel) -> None:
        super().__init__()
        self.model = model


class EncoderGraph(Graph):
    """image (1, 3, h, w), RGB in [0, 1] -> codes (1, h, w, D)."""

    def forward(self, image: Tensor) -> Tensor:
        latent: Tensor = self.model.encode(image).latent
        return latent


class LIIFGraph(Graph):
    """codes (1, h, w, D), position (1, Q, 2) float64 and cell (1, Q, 2), (y, x) in LR pixels -> rgb (1, Q, 3), not clamped.

    `LIIF.query` in plain operators.
    """

    coord: Tensor
    cell: Tensor | None

    def __init__(self, model: SRModel) -> None:
        super().__init__(model)
        layers = cast(LIIF, model.decoder).layers()
        self.register_buffer(
            "coord", layers.coord.detach().clone()
        )  # a copy, because the graph needs only a part of the layer
        self.register_buffer("cell", None if layers.cell is None else layers.cell.detach().clone())

    def forward(self, codes: Tensor, position: Tensor, cell: Tensor) -> Tensor:
        layers = cast(LIIF, self.model.decoder).layers()
        corner = torch.tensor([(0, 0), (0, 1), (1, 0), (1, 1)] if layers.ensemble else [(0, 0)]).view(1, -1, 1, 2)
        position = position.unsqueeze(1)  # (1, corners, Q, 2) from here on
        lower = position.floor() if layers.ensemble else position.round()
        fraction = position - lower
        share = torch.where(corner == 1, fraction, 1 - fraction).prod(-1, keepdim=True) if layers.ensemble else 1
        code = torch.stack([(lower + corner)[..., i].clamp(0, codes.shape[1 + i] - 1) for i in range(2)], -1)
        hidden = codes.flatten(0, 2)[(code[..., 0] * codes.shape[2] + code[..., 1]).long()]
        hidden = hidden + (2 * (position - code)).float() @ self.coord.t()
        if self.cell is not None:
            hidden = hidden + (2 * cell).unsqueeze(1) @ self.cell.t()
        for linear in layers.later:
            hidden = linear(torch.relu(hidden))
        return self.model.denormalise((hidden * share).float().sum(1))


class FourierGraph(Graph):
    """codes (1, h, w, D), which include the image, position and cell as for LIIF -> rgb (1, Q, 3), not clamped."""

    def forward(self, codes: Tensor, position: Tensor, cell: Tensor) -> Tensor:
        field = FourierField(codes.transpose(2, 3), (0, 0), (codes.shape[1], codes.shape[2]), codes)
        return self.model.query(field, position, cell)


class FourierScaleGraph(Graph):
    """image (1, 3, h, w), RGB in [0, 1] -> output (1, 3, h * scale, w * scale), not clamped.

    At a whole scale, the pixels of every code are the same `scale` x `scale` functions of the code and its neighbours: one
    convolution and a pixel shuffle. Beyond the image's edge, a query reads the edge's code with the offset from that code. A
    code in the padding gives the same values if its series is the edge's, moved by one pixel: a rotation of its coefficients.
    """

    series: Tensor
    turn: Tensor

    def __init__(self, model: SRModel, scale: int) -> None:
        super().__init__(model)
        self.scale = scale
        exact = copy.deepcopy(cast(Fourier, model.decoder)).double()
        phase = (2 * torch.arange(scale, dtype=torch.float64) + 1) / (2 * scale) - 0.5
        offset = phase.unsqueeze(1) - torch.arange(-1, 2)  # (scale, 3 neighbours)
        window = torch.where(offset.abs() < 1, torch.cos(math.pi * offset / 2).square(), 0)
        function = window.unsqueeze(-1) * exact.basis(offset, torch.full_like(offset, 1 / scale))
        series = torch.einsum("pyi,qxj->pqjiyx", function, function).flatten(2, 3).flatten(0, 1)
        self.register_buffer("series", series.repeat(3, 1, 1, 1).float().detach())  # (colour and phase, function, 3, 3)
        wave = 2 * math.pi * exact.frequency * torch.arange(1, exact.frequencies + 1)
        one = torch.ones(1, 1, dtype=torch.float64)
        turns = [torch.stack([torch.stack([w.cos(), w.sin()]), torch.stack([-w.sin(), w.cos()])]) for w in wave]
        turn: Tensor = torch.block_diag(one, *turns)  # type: ignore[no-untyped-call]
        self.register_buffer("turn", turn.float().detach())

    def forward(self, image: Tensor) -> Tensor:
        field = self.model.encode(image)
        n, (_, height, _, width) = cast(Fourier, self.model.decoder).functions, field.codes.shape
        codes = field.codes.view(1, height, n, 3, n, width).permute(
            0, 3, 4, 2, 1, 5
        )  # colour, function of x, of y, y, x
        top = torch.einsum("bcjayx,ai->bcjiyx", codes[..., :1, :], self.turn)
        bottom = torch.einsum("bcjayx,ia->bcjiyx", codes[..., -1:, :], self.turn)
        codes = torch.cat([top, codes, bottom], -2)
        left = torch.einsum("bcaiyx,aj->bcjiyx", codes[..., :1], self.turn)
        right = torch.einsum("bcaiyx,ja->bcjiyx", codes[..., -1:], self.turn)
        codes = torch.cat([left, codes, right], -1)
        out = F.conv2d(codes.flatten(1, 3), self.series, groups=3)
        out = F.pixel_shuffle(out, self.scale)
        return self.model.denormalise(out.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


DECODER_GRAPHS: dict[type[nn.Module], Callable[[SRModel], Graph]] = {LIIF: LIIFGraph, Fourier: FourierGraph}
SCALE_GRAPHS: dict[type[nn.Module], Callable[[SRModel, int], Graph]] = {Fourier: FourierScaleGraph}


def export_onnx(found: Checkpoint, folder: Path, *, scale: int | None = None, overwrite: bool = False) -> list[Path]:
    """Write a checkpoint's graphs into `folder`, which is created if needed; returns their files. Each is written atomically.

    scale: also write a graph from image to image for this whole scale. Raises `UsageError` (onnx is not installed, or the
    decoder has no graph), `OutputError` and `CheckpointError`.
    """
    _need_onnx()
    model = found.load()
    graphs = _graphs(model, scale)
    paths = [folder / f"{name}.onnx" for name in graphs]
    _make_folder(folder)
    for path in paths:
        check_target(path, overwrite)
    made = [_serialise(name, graph, found) for name, graph in graphs.items()]
    for path, data in zip(paths, made, strict=True):
        write_bytes(path, data, overwrite=overwrite)
    return paths


def _need_onnx() -> None:
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError:
        raise UsageError(
            "cannot export: onnx and onnxscript are not installed", hint="pip install 'liif[onnx]'"
        ) from None


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot create the folder {folder}: {error.strerror}") from error


def _graphs(model: SRModel, scale: int | None) -> dict[str, Graph]:
    if type(model.decoder) not in DECODER_GRAPHS:
        raise UsageError(f"cannot export the decoder {model.config.decoder.name}: it has no ONNX graph")
    graphs: dict[str, Graph] = {"encoder": EncoderGraph(model), "decoder": DECODER_GRAPHS[type(model.decoder)](model)}
    if scale is None:
        return graphs
    if type(model.decoder) not in SCALE_GRAPHS:
        able = ", ".join(kind.__name__ for kind in SCALE_GRAPHS)
        raise UsageError(f"cannot export a graph for one scale: only the decoder {able} has one")
    if not 2 <= scale <= LARGEST_SCALE:
        raise UsageError(
            f"cannot export a graph for ×{scale}: the scale must be a whole number from 2 to {LARGEST_SCALE}"
        )
    return graphs | {f"x{scale}": SCALE_GRAPHS[type(model.decoder)](model, scale)}


def _serialise(name: str, graph: Graph, found: Checkpoint) -> bytes:
    inputs = _examples(name, graph)
    with _quiet(), torch.enable_grad():  # with gradients enabled, the networks do nothing in place
        program: Any = torch.onnx.export(
            graph.eval().requires_grad_(False),
            tuple(example for example, _ in inputs.values()),
            dynamo=True,
            dynamic_shapes=tuple({axis: SIDES[side] for axis, side in axes.items()} for _, axes in inputs.values()),
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=[OUTPUTS.get(name, "output")],
            verbose=False,
        )
    about = {
        "graph": name,
        "liif": json.dumps(to_dict(found.header)),
        "model": found.name,
        "software": f"liif {__version__}",
    }
    program.model.metadata_props.update(about)
    data: bytes = program.model_proto.SerializeToString()
    return data


def _examples(name: str, graph: Graph) -> dict[str, tuple[Tensor, dict[int, str]]]:
    """Inputs by name: an example and its axes of dynamic length."""
    image = torch.rand(1, 3, 12, 13)
    if name != "decoder":
        return {"image": (image, {2: "height", 3: "width"})}
    return {
        "codes": (EncoderGraph(graph.model)(image).detach(), {1: "height", 2: "width"}),
        "position": (torch.rand(1, 50, 2, dtype=torch.float64) * 10, {1: "queries"}),
        "cell": (torch.rand(1, 50, 2), {1: "queries"}),
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences the exporter's messages about torchvision and its own deprecations."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
