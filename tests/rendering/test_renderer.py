"""Tiles leave no trace; halos are as large as they must be; memory that runs out does no harm."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiny_models import golden_model, tiny_config

from liif_cli.coords import Grid
from liif_cli.errors import DeviceError, OutOfMemory
from liif_cli.machine import devices
from liif_cli.machine.devices import choose_device, choose_precision
from liif_cli.models.encoders.edsr import EDSRConfig
from liif_cli.models.encoders.rdn import RDNConfig
from liif_cli.models.model import SRModel
from liif_cli.models.registry import ENCODERS
from liif_cli.rendering import renderer as rendering
from liif_cli.rendering.assembly import Piece, RowAssembler
from liif_cli.rendering.plan import HALOS, MODERATE, make_plan, piece_rows, tile_bytes
from liif_cli.rendering.renderer import Renderer, render_image
from liif_cli.rendering.sizes import Region, Scale, Size, make_grid
from liif_cli.rendering.tiles import Tile

IMAGE = np.random.default_rng(0).random((60, 70, 3), np.float32)
CPU = torch.device("cpu")


def positive(encoder: str, corner: int) -> SRModel:
    """Positive kernels with most of their weight on one corner, (0, 0) or (2, 2), and no biases.

    No ReLU hides a pixel, and the farthest pixel within reach weighs most: a halo that is one pixel short shows. (Ordinary
    random weights hide it.)
    """
    model = golden_model(tiny_config(encoder))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.abs_()
            if name.endswith("bias"):
                parameter.zero_()
            elif parameter.ndim == 4 and parameter.shape[-1] == 3:
                lean(parameter, corner)
            elif name == "decoder.imnet.layers.0.weight":
                lean(parameter[:, : 8 * 9].view(-1, 8, 3, 3), corner)
            else:
                parameter.div_(parameter[0].numel() ** 0.5)
        model.decoder.imnet.linears[-1].weight.mul_(0.4)  # colours in [0, 1], for which the bounds are meant
    return model


def lean(kernel: torch.Tensor, corner: int) -> None:
    """Put nearly all of the kernels' weight on the tap (corner, corner)."""
    kernel.fill_(0.01 / kernel[0].numel())
    kernel[:, :, corner, corner] = 1 / kernel.shape[1]


def unclamped(model: SRModel, image: NDArray[Any], grid: Grid, side: int | None, **options: Any) -> NDArray[np.float32]:
    """The whole output as the model gives it."""
    renderer = Renderer(model, CPU, **options)
    out = np.full((*grid.shape, 3), np.nan, np.float32)
    for piece in renderer.pieces(image, [grid], renderer.plan(image.shape[:2], [grid], 3, side=side)):
        height, width = piece.rgb.shape[:2]
        out[piece.top : piece.top + height, piece.left : piece.left + width] = piece.rgb
    assert np.isfinite(out).all()
    return out


@pytest.mark.parametrize("corner", [0, 2])
@pytest.mark.parametrize("encoder", ["edsr", "rdn"])
@pytest.mark.parametrize("shape", [(60, 70), (91, 222), (131, 75), (240, 81)])
def test_tiled_equals_untiled(encoder: str, corner: int, shape: tuple[int, int]) -> None:
    model, grid = positive(encoder, corner), Grid.whole((60, 70), shape)
    whole = unclamped(model, IMAGE, grid, None)
    assert whole.min() >= 0 and whole.max() <= 1
    tiled = unclamped(model, IMAGE, grid, 13)  # 5x6 tiles
    np.testing.assert_allclose(tiled, whole, atol=1e-6, rtol=0)


@pytest.mark.parametrize("encoder", ["edsr", "rdn"])
def test_a_halo_one_pixel_short_fails(encoder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Towards the ends; towards the beginnings the ensemble reads one code less, unless the image is turned."""
    model, grid = positive(encoder, corner=2), Grid.whole((60, 70), (91, 222))
    whole = unclamped(model, IMAGE, grid, None)
    short = model.halo - 1
    monkeypatch.setattr(SRModel, "halo", short)
    assert np.abs(unclamped(model, IMAGE, grid, 13) - whole).max() > 1e-6


@pytest.mark.parametrize("encoder", ["edsr", "rdn"])
def test_halo_without_unfolding_and_ensemble(encoder: str) -> None:
    model = golden_model(tiny_config(encoder, feature_unfolding=False, local_ensemble=False))
    grid = Grid.whole((60, 70), (91, 222))
    np.testing.assert_allclose(
        unclamped(model, IMAGE, grid, 13), unclamped(model, IMAGE, grid, None), atol=1e-6, rtol=0
    )


@pytest.mark.parametrize(("config", "radius"), [(EDSRConfig(), 34), (RDNConfig(), 131), (EDSRConfig(blocks=3), 8)])
def test_receptive_radius_is_as_stated(config: EDSRConfig | RDNConfig, radius: int) -> None:
    """One input pixel changes the features exactly as far as the encoder says. (One feature per layer: only reach counts.)"""
    sizes = {key: value for key, value in vars(config).items() if key != "name"} | {"features": 1}
    encoder = ENCODERS[config.name](**sizes | ({"growth": 1} if config.name == "rdn" else {}))
    assert encoder.receptive_radius == radius
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.fill_(1 / parameter[0].numel() if parameter.ndim > 1 else 0)
        point = torch.zeros(1, 3, 1, 2 * radius + 5, dtype=torch.float64)
        point[..., radius + 2] = 1
        changed = encoder.double()(point)[0, 0, 0].nonzero()
    assert (changed.min().item(), changed.max().item()) == (2, 2 * radius + 2)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_tiles_in_half_precision_are_within_one_level(precision: str) -> None:
    model, grid = golden_model(tiny_config()), Grid.whole((60, 70), (91, 222))
    levels = [np.rint(255 * render_image(model, IMAGE, grid, precision=precision, side=s)) for s in (None, 20)]  # type: ignore[arg-type]
    assert np.abs(levels[0] - levels[1]).max() <= 1


def test_region_with_scale_is_the_crop() -> None:
    model = golden_model(tiny_config())
    whole = make_grid((60, 70), Scale.parse("2.3"))
    part = make_grid((60, 70), Scale.parse("2.3"), Region(11, 20, 30, 17))
    full, crop = unclamped(model, IMAGE, whole, None), unclamped(model, IMAGE, part, 9)
    expected = full[part.rows.start : part.rows.stop, part.columns.start : part.columns.stop]
    np.testing.assert_allclose(crop, expected, atol=1e-6, rtol=0)


def test_region_with_size_is_query() -> None:
    model = golden_model(tiny_config())
    grid = make_grid((60, 70), Size.parse("50x41"), Region(11, 20, 30, 17))
    ours = unclamped(model, IMAGE, grid, 9)
    image = torch.from_numpy(IMAGE.transpose(2, 0, 1).copy()).unsqueeze(0)
    y = 20 - 0.5 + (torch.arange(41, dtype=torch.float64) + 0.5) * 17 / 41
    x = 11 - 0.5 + (torch.arange(50, dtype=torch.float64) + 0.5) * 30 / 50
    position = torch.stack(torch.meshgrid(y, x, indexing="ij"), -1).reshape(1, -1, 2)
    cell = torch.tensor([17 / 41, 30 / 50], dtype=torch.float64).expand_as(position)
    with torch.no_grad():
        expected = model.query(model.encode(image), position, cell).reshape(41, 50, 3).numpy()
    np.testing.assert_allclose(ours, expected, atol=1e-5, rtol=0)


def test_a_region_encodes_only_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    model, seen = golden_model(tiny_config()), []
    encode = SRModel.encode
    monkeypatch.setattr(
        SRModel, "encode", lambda self, image, *rest: seen.append(image.shape[2:]) or encode(self, image, *rest)
    )
    unclamped(model, IMAGE, make_grid((60, 70), Scale.parse("2"), Region(30, 30, 4, 5)), None)
    reach = 2 * model.halo
    assert len(seen) == 1
    assert seen[0][0] <= 5 + 2 + reach and seen[0][1] <= 4 + 2 + reach


def test_several_grids_share_one_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    model, calls = golden_model(tiny_config()), []
    encode = SRModel.encode
    monkeypatch.setattr(SRModel, "encode", lambda self, *rest: calls.append(1) or encode(self, *rest))
    grids = [Grid.whole((60, 70), shape) for shape in ((120, 140), (90, 100), (60, 70))]
    renderer = Renderer(model, CPU)
    pieces = list(renderer.pieces(IMAGE, grids, renderer.plan((60, 70), grids, 3)))
    assert len(calls) == 1
    for index, grid in enumerate(grids):
        mine = np.concatenate([piece.rgb for piece in pieces if piece.grid == index])
        np.testing.assert_array_equal(mine, unclamped(model, IMAGE, grid, None))


def test_self_ensemble_is_the_mean_of_four_rotations() -> None:
    model, grid = golden_model(tiny_config()), Grid.whole((60, 70), (91, 222))
    turned = []
    for turn in range(4):
        image = np.ascontiguousarray(np.rot90(IMAGE, turn))
        shape = grid.shape if turn % 2 == 0 else grid.shape[::-1]
        turned.append(np.rot90(unclamped(model, image, Grid.whole(image.shape[:2], shape), None), -turn))
    expected = np.mean(turned, 0)
    for side in (None, 17):
        ours = unclamped(model, IMAGE, grid, side, self_ensemble=True)
        np.testing.assert_allclose(ours, expected, atol=2e-6, rtol=0)


def test_uint8_uint16_and_float_are_the_same_image() -> None:
    model, grid = golden_model(tiny_config()), Grid.whole((20, 20), (30, 30))
    bytes_ = (IMAGE[:20, :20] * 255).astype(np.uint8)
    as_float = unclamped(model, bytes_.astype(np.float32) / 255, grid, None)
    np.testing.assert_array_equal(unclamped(model, bytes_, grid, None), as_float)
    np.testing.assert_allclose(unclamped(model, bytes_.astype(np.uint16) * 257, grid, None), as_float, atol=1e-6)


def fail_above(model: SRModel, monkeypatch: pytest.MonkeyPatch, side: int) -> None:
    """Encoding a window larger than `side` (halo included) runs out of memory, as torch says it on the CPU."""
    encode = SRModel.encode

    def picky(self: SRModel, image: torch.Tensor, *rest: Any) -> Any:
        if max(image.shape[2:]) > side:
            raise RuntimeError(
                "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried ..."
            )
        return encode(self, image, *rest)

    monkeypatch.setattr(SRModel, "encode", picky)


def test_out_of_memory_halves_the_tile_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    model, grid = golden_model(tiny_config()), Grid.whole((60, 70), (91, 222))
    expected = unclamped(model, IMAGE, grid, None)
    fail_above(model, monkeypatch, 20 + 2 * model.halo)
    renderer = Renderer(model, CPU)
    bands = RowAssembler(grid.shape, lambda rgb, top, left: rgb)
    pieces = renderer.pieces(IMAGE, [grid], renderer.plan((60, 70), [grid], 3))
    rows = [row for piece in pieces for row in bands.add(piece)]
    bands.close()
    np.testing.assert_allclose(np.concatenate(rows), expected, atol=1e-6, rtol=0)
    assert renderer.notes == [
        "out of memory with tiles of 70 pixels per side: continued with 35",
        "out of memory with tiles of 35 pixels per side: continued with 18",
    ]


def test_out_of_memory_at_the_smallest_tile(monkeypatch: pytest.MonkeyPatch) -> None:
    model, grid = golden_model(tiny_config()), Grid.whole((60, 70), (91, 222))
    fail_above(model, monkeypatch, 0)
    with pytest.raises(OutOfMemory, match="smallest tile"):
        unclamped(model, IMAGE, grid, None)


def test_other_errors_are_not_taken_for_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SRModel, "encode", lambda *_: (_ for _ in ()).throw(RuntimeError("shapes do not match")))
    with pytest.raises(RuntimeError, match="shapes"):
        unclamped(golden_model(tiny_config()), IMAGE, Grid.whole((60, 70), (91, 222)), None)


def test_colours_that_are_not_numbers_are_tried_again_in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    model, grid = golden_model(tiny_config()), Grid.whole((60, 70), (91, 100))
    expected = unclamped(model, IMAGE, grid, None)
    encode = SRModel.encode

    def overflow(self: SRModel, image: torch.Tensor, origin: Any, size: Any, dtype: torch.dtype) -> Any:
        field = encode(self, image, origin, size, dtype)
        if dtype == torch.bfloat16:
            field.codes.fill_(float("inf"))
        return field

    monkeypatch.setattr(SRModel, "encode", overflow)
    renderer = Renderer(model, CPU, "bf16")
    pieces = list(renderer.pieces(IMAGE, [grid], renderer.plan((60, 70), [grid], 3)))
    np.testing.assert_array_equal(np.concatenate([piece.rgb for piece in pieces]), expected)
    assert any("NaN or infinite" in note for note in renderer.notes)


def test_colours_that_are_never_numbers_are_an_error() -> None:
    model = golden_model(tiny_config())
    with torch.no_grad():
        model.decoder.imnet.linears[-1].bias.fill_(float("nan"))
    with pytest.raises(DeviceError, match="NaN or infinite"):
        unclamped(model, IMAGE, Grid.whole((60, 70), (91, 100)), None)


def test_no_flag_of_the_process_changes_while_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The flags are read while the encoder runs."""
    backends: list[Any] = [torch.backends.cuda.matmul, torch.backends.cudnn.conv]  # type: ignore[attr-defined]
    before = [backend.fp32_precision for backend in backends]
    seen: list[str] = []
    encode = SRModel.encode
    monkeypatch.setattr(
        SRModel, "encode", lambda self, *rest: seen.extend(b.fp32_precision for b in backends) or encode(self, *rest)
    )
    try:
        for backend in backends:
            backend.fp32_precision = "tf32"
        unclamped(golden_model(tiny_config()), IMAGE, Grid.whole((60, 70), (60, 70)), None)
        assert seen == ["tf32", "tf32"]
        assert [backend.fp32_precision for backend in backends] == ["tf32", "tf32"]
    finally:
        for backend, value in zip(backends, before, strict=True):
            backend.fp32_precision = value


def test_convolutions_are_told_not_to_use_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `F.conv2d` and a layer ask for reaches cuDNN's operator, in its order of arguments and without TF32."""
    layer = torch.nn.Conv2d(4, 6, 3, stride=(1, 2), padding=1, groups=2)
    image = torch.rand(1, 4, 9, 8)
    seen = []

    def cudnn(x: Any, weight: Any, padding: Any, stride: Any, dilation: Any, groups: Any, *flags: bool) -> torch.Tensor:
        seen.append(flags)
        with torch._C.DisableTorchFunction():
            return torch.conv2d(x, weight, None, stride, padding, dilation, groups)

    monkeypatch.setattr(torch, "cudnn_convolution", cudnn)
    monkeypatch.setattr(devices, "_uses_tf32", lambda image: image.dtype == torch.float32)
    expected = [layer(image), layer.double()(image.double())]
    with torch.no_grad(), devices.ExactConvolutions():
        assert torch.equal(layer(image.double()), expected[1]) and not seen
        torch.testing.assert_close(layer.float()(image), expected[0])
        torch.testing.assert_close(
            torch.nn.functional.conv2d(image, layer.weight, layer.bias, (1, 2), 1, groups=2), expected[0]
        )
    assert seen == [(False, False, False)] * 2  # not benchmarked, deterministic as torch is told, no TF32


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_fp32_on_a_gpu_is_fp32() -> None:
    model = golden_model(tiny_config()).cuda()
    grid = Grid.whole((60, 70), (91, 222))
    expected = unclamped(golden_model(tiny_config()), IMAGE, grid, None)
    renderer = Renderer(model, torch.device("cuda"))
    pieces = renderer.pieces(IMAGE, [grid], renderer.plan((60, 70), [grid], 3))
    assert torch.backends.cudnn.conv.fp32_precision != "ieee"  # type: ignore[attr-defined]
    np.testing.assert_allclose(np.concatenate([piece.rgb for piece in pieces]), expected, atol=2e-5, rtol=0)


def test_precision_auto(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "fast_fp16_cpu", lambda: True)
    monkeypatch.setattr(devices, "fast_bf16_cpu", lambda: True)
    assert choose_precision("auto", CPU, 8) == "fp16"
    monkeypatch.setattr(devices, "fast_fp16_cpu", lambda: False)
    assert choose_precision("auto", CPU, 8) == "bf16"
    assert choose_precision("auto", CPU, 16) == "fp32"
    assert choose_precision("fp16", CPU, 16) == "fp16"
    monkeypatch.setattr(devices, "fast_bf16_cpu", lambda: False)
    assert choose_precision("auto", CPU, 8) == "fp32"


def test_devices_that_are_not_there() -> None:
    assert choose_device("cpu") == CPU
    for name in ("cuda:99", "banana") + (() if torch.cuda.is_available() else ("cuda",)):
        with pytest.raises(DeviceError):
            choose_device(name)


def test_plan_follows_the_budget() -> None:
    model, size = golden_model(tiny_config()), (3000, 4000)
    grids = [Grid.whole(size, (6000, 8000))]
    budgets = (9 * 2**23, 2**27, 2**30)
    plans = [make_plan(model, size, grids, 3, budget) for budget in budgets]
    assert [plan.side for plan in plans] == sorted(plan.side for plan in plans)
    assert len({plan.side for plan in plans}) > 1
    for plan, budget in zip(plans, budgets, strict=True):
        assert plan.peak <= budget
        assert len(list(plan.tiles())) == plan.count


def test_gaps_in_the_heap_are_returned_before_they_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    model, grid, returned = golden_model(tiny_config()), Grid.whole((40, 20), (40, 20)), []
    monkeypatch.setattr(rendering, "give_back", lambda: returned.append(True))
    used = iter([0, 0, 2**40])  # at the start, before the first tile, before the second
    monkeypatch.setattr(rendering, "resident", lambda: next(used))
    renderer = Renderer(model, CPU)
    plan = replace(renderer.plan((40, 20), [grid], 3, side=20), peak=2**30)
    for number, _ in enumerate(renderer.pieces(IMAGE[:40, :20], [grid], plan)):
        assert len(returned) == number
    assert len(returned) == 2  # and at the end


def test_tiles_are_no_larger_than_pays() -> None:
    model = golden_model(tiny_config())
    assert model.halo is not None
    most = max(MODERATE, HALOS * model.halo)
    for side in (most // 2, most + 50):  # it fits as a whole
        assert make_plan(model, (side, side), [Grid.whole((side, side), (side, side))], 3, 2**31).count == 1
    assert make_plan(model, (3000, 4000), [Grid.whole((3000, 4000), (3000, 4000))], 3, 2**33).side <= most


def test_chunks_do_not_change_the_colours() -> None:
    model, grid, image = golden_model(tiny_config()), Grid.whole((12, 14), (19, 45)), IMAGE[:12, :14]
    whole = unclamped(model, image, grid, None)
    for chunk in (1, 100, 10**6):
        np.testing.assert_allclose(unclamped(model, image, grid, None, chunk=chunk), whole, atol=1e-6, rtol=0)


def test_nothing_fits() -> None:
    with pytest.raises(OutOfMemory, match="not even a tile"):
        make_plan(golden_model(tiny_config()), (300, 300), [Grid.whole((300, 300), (600, 600))], 3, 1000)


def test_the_users_tile_is_kept() -> None:
    plan = make_plan(golden_model(tiny_config()), (300, 300), [Grid.whole((300, 300), (600, 600))], 3, 1000, side=50)
    assert (plan.side, plan.count) == (50, 36)


def test_a_larger_image_takes_no_larger_tile() -> None:
    model = golden_model(tiny_config())
    small, large = (Tile(0, n, 0, n) for n in (1000, 20000))
    assert tile_bytes(model, (1000, 1000), small, 256) == tile_bytes(model, (20000, 20000), large, 256)


def test_tiles_cover_the_image_once() -> None:
    plan = make_plan(golden_model(tiny_config()), (70, 45), [Grid.whole((70, 45), (70, 45))], 3, 2**30, side=13)
    covered = np.zeros((70, 45), int)
    for tile in plan.tiles():
        covered[tile.top : tile.bottom, tile.left : tile.right] += 1
        assert max(tile.height, tile.width) <= 13
    assert (covered == 1).all()


def test_bands_come_in_order_and_a_missing_one_is_noticed() -> None:
    picture = np.arange(30 * 20 * 3, dtype=np.float32).reshape(30, 20, 3)
    bands, rows = RowAssembler((30, 20), lambda rgb, top, left: rgb), []
    edges = [0, 11, 17, 30]
    for top, bottom in pairwise(edges):
        for left, right in ((0, 9), (9, 20)):
            for first in range(top, bottom, 4):
                last = min(first + 4, bottom)
                rows += list(bands.add(Piece(0, first, left, picture[first:last, left:right], bottom)))
    bands.close()
    np.testing.assert_array_equal(np.concatenate(rows), picture)
    unfinished = RowAssembler((30, 20), lambda rgb, top, left: rgb)
    list(unfinished.add(Piece(0, 0, 0, picture[:11], 11)))
    with pytest.raises(AssertionError, match="19 rows"):
        unfinished.close()


def test_thin_bands_when_rendering_runs_out_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    model, grid = golden_model(tiny_config()), Grid.whole((60, 70), (91, 222))
    expected = unclamped(model, IMAGE, grid, None)
    render = SRModel.render

    def picky(self: SRModel, field: Any, rows: Any, columns: Any, chunk: Any) -> torch.Tensor:
        if len(rows) > 10:
            raise MemoryError
        return render(self, field, rows, columns, chunk)

    monkeypatch.setattr(SRModel, "render", picky)
    np.testing.assert_allclose(unclamped(model, IMAGE, grid, None), expected, atol=1e-6, rtol=0)
    assert piece_rows(222) > 91
