"""The fast renderer of regular grids: exact at any size, the same for any cutting, in every precision and on every path."""

import os
import platform
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import forked
import numpy as np
import pytest
import torch
from live_bytes import Live
from PIL import Image
from tiny_models import golden_model, tiny_config

from liif_cli.coords import Axis
from liif_cli.models.decoders import liif
from liif_cli.models.decoders.liif import LIIF
from liif_cli.models.interfaces import Field
from liif_cli.models.kernels import first_layer, fp16_range, hidden_layers
from liif_cli.models.kernels.first_layer import SHARED, Coordinates, ProductStrip, Strip, by_product
from liif_cli.models.kernels.hidden_layers import Layer
from liif_cli.models.kernels.neighbours import Neighbours
from liif_cli.models.model import SRModel
from liif_cli.models.registry import PRESETS
from liif_cli.models.store import load_model

ABLATIONS = [{}, {"cell_decoding": False}, {"feature_unfolding": False}, {"local_ensemble": False}, {"hidden": (16,)}]
EXAMPLE = Path(__file__).parents[2] / "docs" / "chelsea.png"
DTYPES = [torch.float32, torch.float16, torch.bfloat16]
# Where bit equality is promised; elsewhere products are made by libraries that this was not shown for.
EXACT = platform.machine() in ("x86_64", "AMD64")


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def noise(height: int, width: int, batch: int = 1) -> torch.Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(3))


def whole(model: SRModel, size: tuple[int, int] = (9, 11), batch: int = 1) -> Field:
    return model.encode(noise(*size, batch=batch))


def axes(size: tuple[int, int], count: tuple[int, int]) -> tuple[Axis, Axis]:
    return Axis.whole(size[0], count[0]), Axis.whole(size[1], count[1])


def queried(model: SRModel, field: Field, rows: Axis, columns: Axis) -> torch.Tensor:
    """The same pixels through `query`."""
    grid = torch.meshgrid(torch.from_numpy(rows.positions()), torch.from_numpy(columns.positions()), indexing="ij")
    position = torch.stack(grid, -1).view(1, -1, 2).expand(len(field.codes), -1, 2)
    cell = torch.tensor((rows.cell, columns.cell), dtype=torch.float64).expand_as(position)
    return model.query(field, position, cell).view(len(field.codes), len(rows), len(columns), 3)


def exact(
    decoder: LIIF, features: np.ndarray, field: Field, pixel: tuple[int, int], grid: tuple[Axis, Axis]
) -> np.ndarray:
    """Equation 4 with unfolding and cell in float64, coordinates as fractions: features (C, h, w) of the field's tile."""
    (height, width), padded = features.shape[1:], np.pad(features.astype(np.float64), ((0, 0), (1, 1), (1, 1)))
    position = [
        Fraction((2 * index + 1) * axis.extent, 2 * axis.count) - Fraction(1, 2) + axis.offset
        for index, axis in zip(pixel, grid, strict=True)
    ]
    colour = np.zeros(3)
    for corner in ((0, 0), (0, 1), (1, 0), (1, 1)):
        lower = [p.__floor__() for p in position]
        code = [min(max(low + c, 0), n - 1) for low, c, n in zip(lower, corner, field.size, strict=True)]
        relative = [float(2 * (p - c)) for p, c in zip(position, code, strict=True)]
        shares = [float(p - low if c else 1 - (p - low)) for p, low, c in zip(position, lower, corner, strict=True)]
        y, x = code[0] - field.origin[0], code[1] - field.origin[1]
        assert 0 <= y < height and 0 <= x < width
        inputs = [
            padded[:, y : y + 3, x : x + 3].reshape(-1),
            relative,
            [2 * axis.extent / axis.count for axis in grid],
        ]
        value = np.concatenate(inputs)
        for layer in decoder.imnet.linears:
            if layer is not decoder.imnet.linears[0]:
                value = np.maximum(value, 0)
            value = layer.weight.double().numpy() @ value + layer.bias.double().numpy()
        colour += shares[0] * shares[1] * value
    return colour


@pytest.mark.parametrize(
    ("size", "count"),
    [((48, 48), (97, 201)), ((3001, 4007), (20011, 30029)), ((6000, 8000), (45000, 60000))],
    ids=["small", "30,029 wide", "60,000 wide"],
)
def test_float32_is_within_2e5_of_float64(size: tuple[int, int], count: tuple[int, int]) -> None:
    model = golden_model(PRESETS["edsr-baseline-liif"])
    rows, columns = axes(size, count)
    random = np.random.default_rng(1)
    for corner in ("first", "middle", "last"):
        origin = tuple({"first": 0, "middle": n // 2 - 7, "last": n - 14}[corner] for n in size)
        features = random.standard_normal((1, 64, 14, 14)).astype(np.float32)
        field = model.decoder.prepare(torch.from_numpy(features), None, origin, size)
        starts = [
            0 if corner == "first" else axis.first_from(o + 2) for axis, o in zip((rows, columns), origin, strict=True)
        ]
        stops = [
            n if corner == "last" else axis.first_from(o + 11)
            for axis, o, n in zip((rows, columns), origin, count, strict=True)
        ]
        ours = (
            model.render(field, rows.part(starts[0], stops[0]), columns.part(starts[1], stops[1]))[0].double().numpy()
        )
        for _ in range(40):
            y, x = (int(random.integers(start, stop)) for start, stop in zip(starts, stops, strict=True))
            truth = exact(model.decoder, features[0], field, (y, x), (rows, columns)) * 0.5 + 0.5
            assert np.abs(ours[y - starts[0], x - starts[1]] - truth).max() <= 2e-5


@pytest.mark.parametrize(("scale", "rows"), [(1, 1), (2, 4), (3, 25 / 9), (4, 4), (5, 81 / 25)])
def test_a_neighbour_without_weight_is_not_evaluated(scale: int, rows: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluations of the network for each pixel: four, or fewer where pixels lie on codes."""
    model = golden_model(tiny_config())
    field, grid = whole(model), axes((9, 11), (9 * scale, 11 * scale))
    seen = []
    plain = hidden_layers._plain_last
    monkeypatch.setattr(hidden_layers, "works", lambda dtype: False)
    monkeypatch.setattr(
        hidden_layers, "_plain_last", lambda *parameters: lambda x: seen.append(len(x)) or plain(*parameters)(x)
    )
    colours = model.render(field, *grid)
    assert sum(seen) / (9 * 11 * scale**2) == pytest.approx(rows)
    torch.testing.assert_close(colours, queried(model, field, *grid), atol=2e-6, rtol=0)


@pytest.mark.parametrize("options", ABLATIONS, ids=str)
@pytest.mark.parametrize("count", [(9, 11), (18, 44), (27, 33), (31, 50), (7, 60), (200, 3)])
def test_equals_query(options: dict[str, object], count: tuple[int, int]) -> None:
    model = golden_model(tiny_config(**options))
    field, grid = whole(model, batch=2), axes((9, 11), count)
    torch.testing.assert_close(model.render(field, *grid), queried(model, field, *grid), atol=2e-6, rtol=0)


def test_equals_query_in_a_region_with_another_cell_on_a_tile() -> None:
    model = golden_model(tiny_config())
    rows = Axis(40, 37, 5, 30, 11, 9).with_cell(0.3)
    columns = Axis(50, 41, 0, 41, 38, 12)
    field = model.encode(noise(20, 20), (6, 30), (40, 50))
    torch.testing.assert_close(
        model.render(field, rows, columns), queried(model, field, rows, columns), atol=2e-6, rtol=0
    )


def assert_same(ours: torch.Tensor, wanted: torch.Tensor, dtype: torch.dtype, what: object = "") -> None:
    """Bit for bit; where that is not promised, within 1e-6, or one level of 8 bits where `dtype` has 16."""
    if EXACT:
        assert torch.equal(ours, wanted), what
    else:
        torch.testing.assert_close(ours, wanted, atol=1e-6 if dtype == torch.float32 else 1 / 255, rtol=0)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("options", [{}, {"local_ensemble": False}], ids=str)
@pytest.mark.parametrize("count", [(22, 31), (45, 33)], ids=["any", "x5 by x3"])
def test_any_cutting_gives_the_same_bits(
    dtype: torch.dtype, options: dict[str, object], count: tuple[int, int]
) -> None:
    """Chunks, parts of the grid, tiles of codes, images of a batch, threads."""
    model = golden_model(tiny_config(**options))
    field, (rows, columns) = whole(model, batch=2), axes((9, 11), count)
    field = replace(field, codes=field.codes.to(dtype))
    colours = model.render(field, rows, columns)
    for queries in (13, 64, 100_000):
        assert_same(model.render(field, rows, columns, queries), colours, dtype, queries)
    assert_same(model.render(field, rows.part(3, 20), columns.part(17, 18)), colours[:, 3:20, 17:18], dtype)
    tile = replace(field, codes=field.codes[1:, 2:8, 3:9].contiguous(), origin=(2, 3))
    part = rows.part(rows.first_from(2), rows.first_from(6)), columns.part(columns.first_from(3), columns.first_from(8))
    inside = colours[1:, part[0].start : part[0].stop, part[1].start : part[1].stop]
    assert inside.numel()
    assert_same(model.render(tile, *part), inside, dtype)
    torch.set_num_threads(3)
    try:
        for queries in (64, None):
            assert_same(model.render(field, rows, columns, queries), colours, dtype, queries)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(1)


def cancelling(rows: int, inputs: int, outputs: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """(rows, inputs) and (outputs, inputs) whose products nearly vanish: the order of addition shows in 16 bits too."""
    random, half = torch.Generator().manual_seed(4), inputs // 2
    x, weight, rest = (torch.randn(n, half, generator=random) for n in (rows, outputs, rows))
    order = torch.randperm(2 * half, generator=random)
    x, weight = torch.cat([x, x * (1 + rest / 512)], 1)[:, order], torch.cat([weight, -weight], 1)[:, order]
    pad = (0, inputs - 2 * half)
    return torch.nn.functional.pad(x, pad).to(dtype), torch.nn.functional.pad(weight, pad).to(dtype)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("width", [16, 64, 256])
def test_a_row_is_the_same_however_many_there_are(
    width: int, dtype: torch.dtype, fused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not fused:
        monkeypatch.setattr(hidden_layers, "works", lambda dtype: False)
    count = 2 * hidden_layers.PIECE + 3
    x, weight = cancelling(count, width, width, dtype)
    wide, narrow = torch.nn.Linear(width, width), torch.nn.Linear(width, 3)
    for linear in (wide, narrow):
        linear.weight.copy_(weight[: linear.out_features])
    (hidden,), last = hidden_layers.pack([wide, narrow], dtype)
    for layer in (hidden, last):
        wanted = layer(x)
        for rows in (*range(1, 40), 80, 90, 300, hidden_layers.PIECE + 1, count - 1):
            for start in (0, 1, count - rows):
                few = layer(x[start : start + rows])
                assert_same(few.float(), wanted[start : start + rows].float(), dtype, (rows, start))


@pytest.mark.parametrize("width", [16, 64, 256])
def test_a_product_is_the_same_wherever_its_strip_begins(width: int) -> None:
    """One code among others, each with a weight of 0, behind what the coordinates add."""
    if not by_product(torch.empty(0, dtype=torch.bfloat16)):
        pytest.skip("this processor sums instead")
    x, weight = cancelling(60, SHARED, width, torch.bfloat16)
    code = -(x.float() @ weight.float().T).mean(0).bfloat16()
    wanted = None
    for codes in (1, 2, 3, 4, 5, 8, 31, 100, 300):
        for place in {0, 1, 2, 3, codes // 2, codes - 1}.intersection(range(codes)):
            left, right = torch.zeros(60, SHARED + codes), torch.randn(SHARED + codes, width)
            left[:, :SHARED], left[:, SHARED + place] = x, 1
            right[:SHARED], right[SHARED + place] = weight.T, code
            left, right = left.bfloat16(), right.bfloat16()
            for rows in (60, 1, 2, 3, 5, 8, 17, 40):
                out = torch.empty(rows, width, dtype=torch.bfloat16)
                first_layer._multiply(left[:rows], right, out)
                wanted = out if wanted is None else wanted
                assert torch.equal(out, wanted[:rows]), (codes, place, rows)


def test_threads_raise_and_are_put_back() -> None:
    from liif_cli.machine.threads import run

    done: list[bool] = []

    def fail() -> None:
        raise MemoryError

    torch.set_num_threads(2)
    try:
        with torch.inference_mode(), pytest.raises(MemoryError):
            run([lambda: done.append(torch.is_inference_mode_enabled()), fail, fail])
        assert done == [True]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_threads_stay_and_a_forked_process_has_its_own() -> None:
    script = """
import os, signal, threading, torch
from liif_cli.machine.threads import run
def threads():
    seen = set()
    meet = threading.Barrier(2)
    run([lambda: (meet.wait(), seen.add(threading.get_native_id()))] * 2)
    return seen
torch.set_num_threads(2)
first = threads()
assert len(first) == 2 and threads() == first and torch.get_num_threads() == 2
if not (child := os.fork()):
    signal.alarm(30)
    os._exit(0 if len(threads() - first) == 2 else 1)
assert os.waitpid(child, 0)[1] == 0
"""
    assert forked.python(script).wait(60) == 0


def test_nothing_asked_for_nothing_given() -> None:
    model = golden_model(tiny_config())
    rows, columns = axes((9, 11), (20, 20))
    assert model.render(whole(model), rows.part(4, 4), columns).shape == (1, 0, 20, 3)
    assert model.render(whole(model), rows, columns.part(4, 4)).shape == (1, 20, 0, 3)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_without_the_private_operators(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    model = golden_model(PRESETS["edsr-baseline-liif"])
    field, grid = whole(model), axes((9, 11), (20, 30))
    field = replace(field, codes=field.codes.to(dtype))
    fast = model.render(field, *grid)
    monkeypatch.setattr(hidden_layers, "works", lambda dtype: False)
    plain = model.render(field, *grid)
    float32 = 1e-6 * max(1.0, float(plain.abs().max()))  # these colours reach beyond 1
    torch.testing.assert_close(fast, plain, atol=4 * torch.finfo(dtype).eps * float(plain.std()) + float32, rtol=0)


def test_private_operators_are_tried_before_they_are_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(weight: torch.Tensor, bias: torch.Tensor) -> Layer:
        raise AttributeError("'_OpNamespace' 'mkldnn' object has no attribute '_linear_pointwise'")

    for wrong in (missing, lambda weight, bias: lambda x: torch.nn.functional.linear(x, weight)):
        for name in ("_fused_hidden", "_fused_last"):
            with monkeypatch.context() as patch:
                patch.setattr(hidden_layers, name, wrong)
                assert not hidden_layers.works.__wrapped__(torch.float16) or (
                    name == "_fused_last" and wrong is not missing
                )
    monkeypatch.setattr(
        hidden_layers, "_fused_last", lambda weight, bias: lambda x: torch.nn.functional.linear(x, weight).float()
    )
    # A result that was rounded on its way is not good enough.
    assert not hidden_layers.works.__wrapped__(torch.bfloat16)
    assert hidden_layers.works.__wrapped__(torch.float32)


@pytest.mark.parametrize(("dtype", "error"), [(torch.float16, 2e-3), (torch.bfloat16, 2e-2)], ids=str)
def test_16_bits_are_close(dtype: torch.dtype, error: float) -> None:
    model = golden_model(PRESETS["edsr-baseline-liif"])
    image, grid = noise(9, 11), axes((9, 11), (33, 40))
    field = model.encode(image, dtype=dtype)
    assert field.codes.dtype == dtype
    colours, half = model.render(model.encode(image), *grid), model.render(field, *grid)
    assert half.dtype == torch.float32
    assert (half - colours).square().mean().sqrt() <= error * colours.std()


def test_what_the_first_layer_adds_up_is_rounded_once() -> None:
    model = golden_model(tiny_config(hidden=(16,), local_ensemble=False))
    field, (rows, columns) = model.encode(noise(9, 11), dtype=torch.bfloat16), axes((9, 11), (33, 40))
    _, _, coord, cell = model.decoder.split_first_layer()
    y, x = (Neighbours.of(axis, 0, False, torch.device("cpu")) for axis in (rows, columns))
    of_columns = field.codes[0].float()[y.code[0]][:, x.code[0]] + x.relative[0, :, None] * coord[:, 1]
    of_rows = y.relative[0, :, None] * coord[:, 0] + cell @ (2 * torch.tensor((rows.cell, columns.cell)))
    hidden = (of_columns + of_rows[:, None]).bfloat16().relu().float()
    last = model.decoder.imnet.linears[1]
    wanted = hidden @ last.weight.bfloat16().float().T + last.bias
    differ = (model.decoder.render(field, rows, columns)[0] - wanted).abs() > 1e-4 * wanted.std()
    assert differ.float().mean() < 0.01  # a sum in another order may round to the other side


@pytest.mark.parametrize("count", [(9, 11), (27, 33), (40, 57)], ids=["x1", "x3", "any"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_a_product_fills_a_strip_as_sums_do(dtype: torch.dtype, count: tuple[int, int]) -> None:
    random = torch.Generator().manual_seed(5)
    codes = torch.randn(9, 11, 64, generator=random).to(dtype)
    coordinates = Coordinates(*torch.randn(3, 64, generator=random))
    y, x = (Neighbours.of(axis, 0, True, codes.device) for axis in axes((9, 11), count))
    sums, products = (torch.empty(2, len(y), 2 * len(x), 64, dtype=dtype) for _ in range(2))
    Strip(codes, x, coordinates, len(y)).fill(y, sums)
    strip = ProductStrip(codes, x, coordinates, len(y) + 3)
    strip.fill(y.part(2, 7), torch.empty_like(products[:, :5]))  # leaves nothing behind
    strip.fill(y, products)
    assert (sums != products).float().mean() < 0.002  # those that were rounded to the other side
    torch.testing.assert_close(products, sums, rtol=2 * torch.finfo(dtype).eps, atol=1e-4)


@pytest.mark.parametrize("factor", [1, 30, 1e4])
def test_singular_bound_is_above_and_near(factor: float) -> None:
    for shape in ((256, 256), (3, 256), (16, 8)):
        weight = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * factor
        true = float(torch.linalg.matrix_norm(weight, 2))
        assert true <= float(fp16_range.singular_bound(weight)) <= 1.25 * true


def loud(model: SRModel, factor: float) -> SRModel:
    """The same model with hidden values `factor` times as large, in exact powers of two, and the same colours."""
    first, last = model.decoder.imnet.linears[0], model.decoder.imnet.linears[-1]
    for tensor in (first.weight, first.bias, last.weight):
        tensor.mul_(factor if tensor is not last.weight else 1 / factor)
    for layer in model.decoder.imnet.linears[1:-1]:
        layer.bias.mul_(factor)
    return model


def test_where_fp16_would_overflow_bf16_is_taken() -> None:
    image, grid = noise(9, 11), axes((9, 11), (33, 40))
    colours = golden_model(tiny_config()).render(golden_model(tiny_config()).encode(image), *grid)
    for factor, dtype in ((1.0, torch.float16), (2.0**18, torch.bfloat16)):
        model = loud(golden_model(tiny_config()), factor)
        field = model.encode(image, dtype=torch.float16)
        assert field.codes.dtype == dtype
        torch.testing.assert_close(model.render(field, *grid), colours, atol=0.05 * float(colours.std()), rtol=0)
    huge = [axis.with_cell(1e6) for axis in grid]
    field = golden_model(tiny_config()).encode(image, dtype=torch.float16)
    assert model.render(model.bind(field, *huge), *huge).isfinite().all()
    assert liif.LARGEST_CELL < 1e6


def test_an_encoder_that_overflows_fp16_is_run_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("liif_cli.models.model.fast_fp16_cpu", lambda: True)
    model = golden_model(tiny_config())
    for parameter in model.encoder.head.parameters():
        parameter.mul_(2.0**20)
    field = model.encode(noise(9, 11), dtype=torch.float16)
    assert field.codes.dtype == torch.bfloat16
    assert field.codes.isfinite().all()
    assert float(field.codes.abs().max()) > torch.finfo(torch.float16).max


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("count", "queries"), [((16, 1024), 1024), ((24, 1000), None), ((3000, 2), 512), ((99, 99), 256)]
)
def test_memory_is_what_is_stated(dtype: torch.dtype, count: tuple[int, int], queries: int | None) -> None:
    model = golden_model(tiny_config(hidden=(256, 256)))
    field, grid = whole(model), axes((9, 11), count)
    field = replace(field, codes=field.codes.to(dtype))
    with Live() as live:
        model.decoder.render(field, *grid, queries)
    weights = 4 * sum(p.numel() for p in model.decoder.parameters())
    result = count[0] * count[1] * 3 * 4
    assert live.peak <= model.decoder.scratch_bytes(queries) + result + weights + 64 * sum(count)
    if queries:
        assert live.peak > model.decoder.scratch_bytes(queries) / 5  # the statement is not an idle one either


@pytest.mark.weights
@pytest.mark.parametrize(("dtype", "equal"), [(torch.float16, 0.97), (torch.bfloat16, 0.85)], ids=str)
def test_8_bit_outputs_of_trained_weights(dtype: torch.dtype, equal: float) -> None:
    """16 bits against fp32: at most a level apart (bf16: two), nearly all values equal, no PSNR lost."""
    model = load_model("edsr-baseline-liif")
    with Image.open(EXAMPLE) as picture:
        hr = picture.convert("RGB").crop((100, 60, 196, 156))
    lr = torch.from_numpy(np.array(hr.resize((32, 32), Image.Resampling.BICUBIC))).permute(2, 0, 1).unsqueeze(0) / 255
    truth = torch.from_numpy(np.array(hr)).double()
    grid = axes((32, 32), (96, 96))
    levels = [
        (model.render(model.encode(lr, dtype=kind), *grid)[0].clamp(0, 1) * 255).round().double()
        for kind in (None, dtype)
    ]
    difference = (levels[0] - levels[1]).abs()
    assert difference.max() <= (1 if dtype == torch.float16 else 2)
    assert (difference == 0).double().mean() >= equal
    decibels = [10 * np.log10(255**2 / float((level - truth).square().mean())) for level in levels]
    assert abs(decibels[0] - decibels[1]) <= (0.001 if dtype == torch.float16 else 0.005)
