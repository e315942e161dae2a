"""The battery: what every encoder and decoder must do, run over all that are registered, and over three toys of this file.

A toy is what a new model would be: a class with its config, and one line in the registry.
"""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier
from typing import Any, Literal

import numpy as np
import pytest
import torch
from live_bytes import Live
from numpy.typing import NDArray
from PIL import Image
from ran import Ran
from tiny_models import formula
from torch import Tensor, nn
from torch.nn import functional as F

from liif_cli.coords import Grid
from liif_cli.errors import OutOfMemory, UsageError
from liif_cli.machine.devices import DTYPES
from liif_cli.models import model as models
from liif_cli.models.checkpoints import read_header, save_model
from liif_cli.models.interfaces import CHUNK, Decoder, Encoder, Field
from liif_cli.models.model import SRModel
from liif_cli.models.registry import DECODERS, ENCODERS, ModelConfig
from liif_cli.models.schema import PartConfig, parse, to_dict
from liif_cli.models.store import load_model
from liif_cli.rendering import plan
from liif_cli.rendering.plan import tile_bytes
from liif_cli.rendering.renderer import Renderer, precision_for
from liif_cli.rendering.tiles import Tile

CPU = torch.device("cpu")
SIZE = (30, 37)
IMAGE = np.random.default_rng(0).random((*SIZE, 3), np.float32)


@dataclass(frozen=True)
class LinearConfig(PartConfig):
    """A decoder of one linear layer."""

    name: Literal["linear"] = "linear"
    width: int = 5


class Linear(Decoder):
    """Colours are linear in the codes, which are interpolated linearly, and added to the LR image. No `render` of its own."""

    Config = LinearConfig
    tiny = LinearConfig()
    halo = 1

    def __init__(self, in_channels: int, width: int = 5) -> None:
        super().__init__()
        self.width = width
        self.lift = nn.Conv2d(in_channels, width, 1)
        self.colours = nn.Linear(width + 2, 3)

    def prepare(
        self,
        features: Tensor,
        image: Tensor,
        origin: tuple[int, int] = (0, 0),
        size: tuple[int, int] | None = None,
        dtype: torch.dtype | None = None,
    ) -> Field:
        codes = torch.cat([self.lift(features.to(self.lift.weight.dtype)), image], 1).permute(0, 2, 3, 1)
        return Field(codes.to(dtype or codes.dtype), origin, size or (features.shape[2], features.shape[3]))

    def query(self, field: Field, position: Tensor, cell: Tensor) -> Tensor:
        lower = position.floor()
        total = torch.zeros((), dtype=self.colours.weight.dtype)
        batch = torch.arange(len(position)).view(-1, 1)
        for dy in (0, 1):
            for dx in (0, 1):
                share = (1 - (position - lower - torch.tensor([dy, dx])).abs()).prod(-1, keepdim=True)
                y, x = (
                    (lower[..., i] + (dy, dx)[i]).clamp(0, field.size[i] - 1).long() - field.origin[i] for i in (0, 1)
                )
                total = total + share.to(total.dtype) * field.codes[batch, y, x].to(total.dtype)
        codes, image = total.split([self.width, 3], -1)
        linear: Tensor = self.colours(torch.cat([codes, cell.to(codes.dtype)], -1))
        return linear + image

    def bytes_per_code(self, dtype: torch.dtype) -> int:
        return (self.width + 3) * dtype.itemsize

    def scratch_bytes(self, queries: int | None = None) -> int:
        return (queries or CHUNK) * (30 * 8 + (self.width + 3) * 4 * 6)


@dataclass(frozen=True)
class TwiceConfig(PartConfig):
    """A decoder for x2."""

    name: Literal["twice"] = "twice"


class Twice(Decoder):
    """Pixel shuffle: x2 and nothing else, in fp32 alone."""

    Config = TwiceConfig
    tiny = TwiceConfig()
    halo = 2  # the nearest code may be the next one, and the convolution reads one more
    scales = (2.0, 2.0)
    dtypes = frozenset({torch.float32})

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.tail = nn.Conv2d(in_channels, 12, 3, padding=1)

    def prepare(
        self,
        features: Tensor,
        image: Tensor,
        origin: tuple[int, int] = (0, 0),
        size: tuple[int, int] | None = None,
        dtype: torch.dtype | None = None,
    ) -> Field:
        codes = self.tail(features).permute(0, 2, 3, 1)
        return Field(codes, origin, size or (features.shape[2], features.shape[3]))

    def query(self, field: Field, position: Tensor, cell: Tensor) -> Tensor:
        pixel = (2 * position + 0.5).round().long()  # of the output: position p is the pixel 2 p + 1/2
        y, x = (pixel[..., i].clamp(0, 2 * field.size[i] - 1) for i in (0, 1))
        code = field.codes[:, y[0] // 2 - field.origin[0], x[0] // 2 - field.origin[1]]
        return code.view(*code.shape[:2], 2, 2, 3)[:, torch.arange(code.shape[1]), y[0] % 2, x[0] % 2]

    def supports(self, grid: Grid) -> str | None:
        twice = all(axis.count == 2 * axis.extent for axis in (grid.rows, grid.columns))
        return None if twice else "it renders only ×2"

    def bytes_per_code(self, dtype: torch.dtype) -> int:
        return 12 * dtype.itemsize

    def scratch_bytes(self, queries: int | None = None) -> int:
        return (queries or CHUNK) * 200


@dataclass(frozen=True)
class PooledConfig(PartConfig):
    """An encoder that looks at everything."""

    name: Literal["pooled"] = "pooled"


class Pooled(Encoder):
    """The image and its mean: reads the whole image, and is never tiled."""

    Config = PooledConfig
    tiny = PooledConfig()
    out_channels = 6
    receptive_radius = None
    live_channels = 12

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def deep(self, shallow: Tensor) -> Tensor:
        return torch.cat([shallow, self.scale * shallow.mean((2, 3), keepdim=True).expand_as(shallow)], 1)


@dataclass(frozen=True)
class WindowedConfig(PartConfig):
    """An encoder that works in windows."""

    name: Literal["windowed"] = "windowed"


class Windowed(Encoder):
    """The image and the mean of its 4x4 window, counted from the image's corner: tiles must begin at multiples of 4."""

    Config = WindowedConfig
    tiny = WindowedConfig()
    out_channels = 6
    receptive_radius = 3
    alignment = 4
    live_channels = 30

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def deep(self, shallow: Tensor) -> Tensor:
        height, width = shallow.shape[2:]
        filled = F.pad(shallow, (0, -width % 4, 0, -height % 4), mode="replicate")
        means = F.avg_pool2d(filled, 4).repeat_interleave(4, 2).repeat_interleave(4, 3)
        return torch.cat([shallow, self.scale * means[..., :height, :width]], 1)


TOY_DECODERS: dict[str, type[Decoder]] = {"linear": Linear, "twice": Twice}
TOY_ENCODERS: dict[str, type[Encoder]] = {"pooled": Pooled, "windowed": Windowed}
PAIRS = [
    *((encoder, "liif") for encoder in [*ENCODERS, *TOY_ENCODERS]),
    *(("edsr", decoder) for decoder in [*DECODERS, *TOY_DECODERS] if decoder != "liif"),
    ("gated", "fourier"),
    ("windowed", "linear"),
]
every_model = pytest.mark.parametrize("names", PAIRS, ids="-".join)
every_grid = pytest.mark.parametrize(
    "shape", [SIZE, (60, 74), (81, 100), (41, 111)], ids=["x1", "x2", "x2.7", "anisotropic"]
)


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The toys' lines in the registry; the tests run without gradients unless they want some."""
    for table, toys in ((ENCODERS, TOY_ENCODERS), (DECODERS, TOY_DECODERS)):
        for name, toy in toys.items():
            monkeypatch.setitem(table, name, toy)  # type: ignore[arg-type]
    with torch.no_grad():
        yield


def build(names: tuple[str, str]) -> SRModel:
    """The tiny model of an encoder and a decoder, its parameters a formula of their names, and none of them zero."""
    encoder, decoder = names
    config = ModelConfig(ENCODERS[encoder].tiny, DECODERS[decoder].tiny)
    own = SRModel(config).export()
    tensors = {name: formula(name, tuple(t.shape)) if t.shape else torch.tensor(0.3) for name, t in own.items()}
    return SRModel.from_tensors(config, tensors).eval()


def rendered(model: SRModel, grid: Grid, side: int | None = None, **options: Any) -> NDArray[np.float32]:
    """The whole output as the model gives it. Skips what the model refuses, which has a test of its own."""
    if model.supports(grid):
        pytest.skip(f"the model refuses it: {model.supports(grid)}")
    renderer = Renderer(model, CPU, **options)
    out = np.full((*grid.shape, 3), np.nan, np.float32)
    for piece in renderer.pieces(IMAGE, [grid], renderer.plan(SIZE, [grid], 3, budget=2**30, side=side)):
        height, width = piece.rgb.shape[:2]
        out[piece.top : piece.top + height, piece.left : piece.left + width] = piece.rgb
    return out


def pixels(image: NDArray[np.float32] = IMAGE) -> Tensor:
    return torch.from_numpy(image.transpose(2, 0, 1).copy()).unsqueeze(0)


@every_grid
@every_model
def test_tiles_leave_no_trace(names: tuple[str, str], shape: tuple[int, int]) -> None:
    model, grid = build(names), Grid.whole(SIZE, shape)
    whole = rendered(model, grid)
    assert np.isfinite(whole).all() and whole.std() > 0.01
    np.testing.assert_allclose(rendered(model, grid, side=9), whole, atol=1e-6 * max(1, np.abs(whole).max()), rtol=0)


@every_model
def test_turned_tiles_leave_no_trace(names: tuple[str, str]) -> None:
    model, grid = build(names), Grid.whole(SIZE, (60, 74))
    whole, tiled = (rendered(model, grid, side, self_ensemble=True) for side in (None, 9))
    np.testing.assert_allclose(tiled, whole, atol=1e-6 * max(1, np.abs(whole).max()), rtol=0)


@every_grid
@every_model
def test_render_is_query(names: tuple[str, str], shape: tuple[int, int]) -> None:
    model, grid = build(names), Grid.whole(SIZE, shape)
    ours = rendered(model, grid)
    y, x = (torch.from_numpy(axis.positions()) for axis in (grid.rows, grid.columns))
    position = torch.stack(torch.meshgrid(y, x, indexing="ij"), -1).view(1, -1, 2)
    cell = torch.tensor([grid.rows.cell, grid.columns.cell], dtype=torch.float64).expand_as(position)
    wanted = model.query(model.encode(pixels()), position, cell).view(*shape, 3)
    np.testing.assert_allclose(ours, wanted, atol=1e-5 * max(1, float(wanted.abs().max())), rtol=0)
    if grid.rows.cell == grid.columns.cell * 2:
        np.testing.assert_array_equal(rendered(model, grid, chunk=100), ours)


@every_model
def test_a_part_of_a_grid_is_the_crop(names: tuple[str, str]) -> None:
    model, whole = build(names), Grid.whole(SIZE, (60, 74))
    part = Grid(whole.rows.part(7, 31), whole.columns.part(40, 74))
    np.testing.assert_allclose(rendered(model, part), rendered(model, whole)[7:31, 40:74], atol=1e-5, rtol=0)


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """Sets torch's number of threads for this test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@every_model
def test_cutting_changes_8_bits_at_rounding_ties_only(names: tuple[str, str], threads: Callable[[int], None]) -> None:
    """Tiles, batches and threads, in float32."""
    model, grid = build(names), Grid.whole(SIZE, (60, 74))
    whole = rendered(model, grid)
    bound = 1e-6 * max(1, np.abs(whole).max())
    batch = model.bind(model.encode(torch.cat([pixels(IMAGE[::-1]), pixels()])), grid.rows, grid.columns)
    others = [model.render(batch, grid.rows, grid.columns)[1].numpy()]
    for count, side in ((1, 9), (2, None), (3, None), (3, 13)):
        threads(count)
        others.append(rendered(model, grid, side))
    for other in others:
        np.testing.assert_allclose(other, whole, atol=bound, rtol=0)
        differ = np.rint(255 * other) != np.rint(255 * whole)
        assert (np.abs(255 * whole[differ] % 1 - 0.5) <= 255 * bound).all()


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@every_model
def test_cutting_changes_16_bits_by_one_level_at_most(
    names: tuple[str, str], precision: str, threads: Callable[[int], None]
) -> None:
    model, grid = build(names), Grid.whole(SIZE, (60, 74))
    if DTYPES[precision] not in model.dtypes:
        pytest.skip("it does not compute in it")
    for parameter in model.decoder.parameters():
        parameter.mul_(0.5 if parameter.ndim > 1 else 1)  # colours in [0, 1], for which the bound is meant
    whole = rendered(model, grid, precision=precision)
    for count, side in ((1, 9), (3, None), (3, 13)):
        threads(count)
        other = rendered(model, grid, side, precision=precision)
        assert np.abs(np.rint(255 * other) - np.rint(255 * whole)).max() <= 1


def reach(model: SRModel) -> int:
    """How far from its lower code or the next one a query's colours depend on the image: by the gradients, of which none is
    exactly zero within reach, however small it is."""
    image, size = torch.rand(1, 3, 70, 70, generator=torch.Generator().manual_seed(0)).double(), 70
    image.requires_grad_()
    centre = torch.tensor([[[34.3, 34.3], [34.9, 34.9]]], dtype=torch.float64)
    colours = model.double().query(model.encode(image), centre, torch.full_like(centre, 0.4))
    (gradient,) = torch.autograd.grad((colours * torch.tensor([1.0, 1.7, -0.6])).sum(), image)
    touched = gradient[0].abs().sum(0)
    ends = [line.nonzero().squeeze(1) for line in (touched.sum(0), touched.sum(1))]
    first, last = (int(pick([float(pick(end.tolist())) for end in ends])) for pick in (min, max))
    assert first > 0 and last < size - 1, "the test's image is too small"
    return max(34 - first, last - 34)


@every_model
def test_the_halo_is_as_stated(names: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The measured reach is the stated one: one less would lose something, one more would be waste."""
    model = build(names)
    if model.halo is None:
        pytest.skip("it reads the whole image")
    if model.alignment > 1 or model.supports(Grid.whole(SIZE, (80, 100))):
        pytest.skip("its reach depends on the place: tiles leave no trace, which is tested")
    with torch.enable_grad():
        assert reach(model) == model.halo


def test_a_halo_that_is_one_too_small_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The measure and the tiles both tell, where the farthest pixel weighs most."""
    monkeypatch.setattr(Linear, "halo", 0)
    monkeypatch.setattr(Windowed, "receptive_radius", 0)
    model, grid = build(("windowed", "linear")), Grid.whole(SIZE, (81, 100))
    with pytest.raises((AssertionError, IndexError)):
        np.testing.assert_allclose(rendered(model, grid, side=7), rendered(model, grid), atol=1e-5)
    with torch.enable_grad():
        assert reach(build(("edsr", "linear"))) == build(("edsr", "linear")).halo + 1  # type: ignore[operator]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@every_model
def test_memory_is_within_the_plan(names: tuple[str, str], precision: str) -> None:
    model, grid = build(names), Grid.whole(SIZE, (60, 74))
    if DTYPES[precision] not in model.dtypes:
        pytest.skip("it does not compute in it")
    with Live() as live:
        rendered(model, grid, precision=precision, chunk=512)
    weights = 3 * 4 * sum(parameter.numel() for parameter in model.parameters())
    result = 3 * 4 * 3 * grid.shape[0] * grid.shape[1]
    assert live.peak <= tile_bytes(model, SIZE, Tile(0, SIZE[0], 0, SIZE[1]), 64, chunk=512) + weights + result + 2**16


@every_model
def test_what_is_saved_is_loaded(names: tuple[str, str], tmp_path: Path) -> None:
    model, grid = build(names), Grid.whole(SIZE, (60, 74))
    save_model(model, tmp_path / "tiny.safetensors", licence="CC0-1.0", provenance={})
    loaded = load_model(tmp_path / "tiny.safetensors")
    assert loaded.config == model.config == parse(ModelConfig, to_dict(model.config))
    assert read_header(tmp_path / "tiny.safetensors").model["encoder"]["name"] == names[0]
    np.testing.assert_array_equal(rendered(loaded, grid), rendered(model, grid))


@pytest.mark.parametrize(("precision", "error"), [("bf16", 0.03), ("fp16", 0.004)])
@every_model
def test_16_bits_are_close_or_refused(
    names: tuple[str, str], precision: Any, error: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The encoder's part too, as if this processor were fast in it: within what it states."""
    for native in ("fast_bf16_cpu", "fast_fp16_cpu"):
        monkeypatch.setattr(models, native, lambda: True)
    model, grid = build(names), Grid.whole(SIZE, (60, 74))
    exact = rendered(model, grid)
    if DTYPES[precision] not in model.dtypes:
        with pytest.raises(UsageError, match="renders only in fp32"):
            precision_for(model, precision, CPU, 8)
        assert precision_for(model, "auto", CPU, 8) == "fp32"
        return
    coarse = rendered(model, grid, precision=precision_for(model, precision, CPU, 8))
    assert 0 < np.abs(coarse - exact).max() < error * exact.std() * 4


@every_model
def test_two_threads_at_once_give_what_one_gives(names: tuple[str, str]) -> None:
    model, meet = build(names), Barrier(2)
    grids = [Grid.whole(SIZE, (60, 74)), Grid.whole(SIZE, (60, 74))]

    def work(grid: Grid) -> NDArray[np.float32]:
        meet.wait()
        return rendered(model, grid, side=16)

    with ThreadPoolExecutor(2) as threads:
        both = list(threads.map(work, grids))
    for one in both:
        np.testing.assert_array_equal(one, rendered(model, grids[0], side=16))


@every_model
def test_whole_patches_are_queries(names: tuple[str, str]) -> None:
    model = build(names)
    if model.supports(Grid.whole((6, 6), (9, 9))):
        pytest.skip("it has one scale")
    images = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    side, field = torch.tensor([9, 11]), model.encode(images)
    ours, general = (f(field, side, 11) for f in (model.decoder.patches, lambda *a: Decoder.patches(model.decoder, *a)))
    torch.testing.assert_close(ours, general.float(), atol=1e-5, rtol=1e-5)
    assert not ours[0, 9:].any() and not ours[0, :, 9:].any() and ours[0, 8, 8].any() and ours[1, 10, 10].any()


class TestWhatAModelSays:
    """Plan, notes and errors follow from it."""

    def test_a_fixed_scale_refuses_others(self) -> None:
        model, renderer = build(("edsr", "twice")), Renderer(build(("edsr", "twice")), CPU)
        with pytest.raises(UsageError, match="cannot render 100x81 pixels: it renders only ×2"):
            renderer.plan(SIZE, [Grid.whole(SIZE, (60, 74)), Grid.whole(SIZE, (81, 100))], 3)
        assert model.supports(Grid.whole(SIZE, (60, 74))) is None

    def test_a_whole_image_is_one_tile(self) -> None:
        renderer = Renderer(build(("pooled", "liif")), CPU)
        grid = Grid.whole((3000, 4000), (300, 400))
        one = renderer.plan((3000, 4000), [grid], 3, budget=2**50, side=100)
        assert one.count == 1 and one.notes == ("the tile size was ignored: the model reads the whole image",)
        with pytest.raises(OutOfMemory, match="reads the whole image, which needs"):
            renderer.plan((3000, 4000), [grid], 3, budget=2**20)

    def test_a_part_of_it_is_encoded_with_all_of_it(self) -> None:
        model = build(("pooled", "liif"))
        whole = Grid.whole(SIZE, (60, 74))
        part = Grid(whole.rows.part(0, 5), whole.columns.part(0, 5))
        small = Renderer(model, CPU).plan(SIZE, [part], 3, budget=2**30)
        assert small.peak > tile_bytes(
            model, SIZE, Tile(0, *SIZE[:1], 0, SIZE[1]), 1
        )  # of the whole image all the same
        np.testing.assert_allclose(rendered(model, part), rendered(model, whole)[:5, :5], atol=1e-6)

    def test_memory_that_runs_out_is_not_halved(self, monkeypatch: pytest.MonkeyPatch) -> None:
        model = build(("pooled", "liif"))
        monkeypatch.setattr(SRModel, "encode", lambda *_: (_ for _ in ()).throw(MemoryError()))
        with pytest.raises(OutOfMemory, match="reads as a whole"):
            rendered(model, Grid.whole(SIZE, (60, 74)))

    def test_the_command_line_says_it_too(self, tmp_path: Path, liif: Callable[..., Ran]) -> None:
        Image.fromarray((IMAGE * 255).astype(np.uint8)).save("in.png")
        Path("out.png").write_bytes(b"kept")
        for name, pair in (("twice", ("edsr", "twice")), ("pooled", ("pooled", "linear"))):
            save_model(build(pair), Path(f"{name}.safetensors"), licence="CC0-1.0", provenance={})
        for more in ((), ("--dry-run",)):
            ran = liif("upscale", "in.png", "-s", 3, "-o", "out.png", "--overwrite", "-m", "twice.safetensors", *more)
            assert ran.code == 2 and "renders only ×2" in "\n".join(ran.err)
            assert Path("out.png").read_bytes() == b"kept"
        ran = liif("upscale", "in.png", "-s", 2, "-o", "b.png", "-m", "twice.safetensors", "--precision", "bf16")
        assert ran.code == 2 and "renders only in fp32" in "\n".join(ran.err)
        ran = liif("upscale", "in.png", "-s", 2, "--tile", 9, "-m", "pooled.safetensors", "--dry-run", "--json")
        assert ran.code == 0 and json.loads(ran.out[0])["tiles"] == 1
        ran = liif("upscale", "in.png", "-s", 2, "--tile", 16, "-m", "pooled.safetensors")
        assert ran.code == 0 and any("the model reads the whole image" in line for line in ran.err)
        assert liif("upscale", "in.png", "-s", 2, "-o", "c.png", "-m", "twice.safetensors").code == 0

    def test_fields_are_bound_once_per_tile_and_output(self, monkeypatch: pytest.MonkeyPatch) -> None:
        bound: list[tuple[float, float]] = []
        monkeypatch.setattr(Linear, "bind", lambda self, field, cell: bound.append(cell) or field)
        monkeypatch.setattr(plan, "PIECE_PIXELS", 300)  # several bands for each tile
        model, grids = build(("edsr", "linear")), [Grid.whole(SIZE, (60, 74)), Grid.whole(SIZE, (30, 111))]
        renderer = Renderer(model, CPU)
        pieces = list(renderer.pieces(IMAGE, grids, renderer.plan(SIZE, grids, 3, budget=2**30, side=19)))
        assert len(pieces) > 8 and bound == [(0.5, 0.5), (1.0, 1 / 3)] * 4

    def test_windows_begin_at_multiples(self) -> None:
        assert Tile(9, 14, 5, 20).window(3, (30, 22), 4) == Tile(4, 20, 0, 22)
        assert Tile(9, 14, 5, 20).window(3, (30, 22)) == Tile(6, 17, 2, 22)
        assert Tile(9, 14, 5, 20).window(None, (30, 22)) == Tile(0, 30, 0, 22)

    @pytest.mark.parametrize("turn", range(4))
    def test_turned_tiles(self, turn: int) -> None:
        mark = np.zeros((5, 7))
        mark[1:3, 2:6] = 1
        tile = Tile(1, 3, 2, 6).turned(turn, (5, 7))
        assert np.rot90(mark, turn)[tile.top : tile.bottom, tile.left : tile.right].sum() == mark.sum() == 8
