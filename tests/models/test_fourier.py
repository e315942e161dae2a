"""The Fourier decoder against its equations in float64, its grids against its queries, and what it promises at x1."""

import numpy as np
import pytest
import torch

from liif_cli.coords import Axis
from liif_cli.models.decoders.fourier import Fourier, at_codes
from liif_cli.models.model import SRModel
from liif_cli.models.registry import PRESETS

CHANNELS = 5


@pytest.fixture
def decoder() -> Fourier:
    torch.manual_seed(0)
    decoder = Fourier(CHANNELS)
    for parameter in (decoder.coefficients.weight, decoder.coefficients.bias, decoder.correction.weight):
        torch.nn.init.normal_(parameter, std=0.2)
    return decoder.eval()


def inputs(height: int, width: int, batch: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(height * width)
    return torch.randn(batch, CHANNELS, height, width, generator=generator), torch.randn(
        batch, 3, height, width, generator=generator
    )


def oracle(
    decoder: Fourier, features: torch.Tensor, image: torch.Tensor, y: float, x: float, cell: tuple[float, float]
) -> np.ndarray:
    """One pixel's colours by the equations, in float64 and loops."""
    n, b, kappa = decoder.functions, decoder.frequency.item(), decoder.damping.item()
    weight = decoder.coefficients.weight.detach().double().numpy()[:, :, 0, 0].reshape(3, n * n - 1, -1)
    bias = decoder.coefficients.bias.detach().double().numpy().reshape(3, n * n - 1)
    correction = decoder.correction.weight.detach().double().numpy()[:, :, 0, 0]

    def basis(u: float, cell: float) -> np.ndarray:
        values = [1.0]
        for k in range(1, n // 2 + 1):
            w = 2 * np.pi * k * b
            gain = np.exp(-kappa * w**2 * max(cell, 0.25) ** 2)
            values += [gain * np.cos(w * u), gain * np.sin(w * u)]
        return np.array(values)

    height, width = features.shape[2:]
    result = np.zeros(3)
    for row in (int(np.floor(y)), int(np.floor(y)) + 1):
        for column in (int(np.floor(x)), int(np.floor(x)) + 1):
            share = np.cos(np.pi * (y - row) / 2) ** 2 * np.cos(np.pi * (x - column) / 2) ** 2
            i, j = min(max(row, 0), height - 1), min(max(column, 0), width - 1)
            own = features[0, :, i, j].double().numpy()
            functions = np.outer(basis(y - i, cell[0]), basis(x - j, cell[1])).ravel()[1:]
            still = np.outer(basis(0, 1), basis(0, 1)).ravel()[1:]
            series = (weight @ own + bias) @ (functions - still)
            result += share * (image[0, :, i, j].double().numpy() + correction @ own + series)
    return result


@pytest.mark.parametrize(("size", "count"), [((6, 9), (17, 13)), ((6, 9), (24, 70)), ((3, 8000), (7, 60000))])
def test_pixels_are_the_equations(decoder: Fourier, size: tuple[int, int], count: tuple[int, int]) -> None:
    features, image = inputs(*size)
    rows, columns = Axis.whole(size[0], count[0]), Axis.whole(size[1], count[1])
    with torch.no_grad():
        out = decoder.render(decoder.prepare(features, image), rows, columns)[0].numpy()
    y, x = rows.positions(), columns.positions()
    rng = np.random.default_rng(0)
    places = [(0, 0), (count[0] - 1, count[1] - 1), *zip(*(rng.integers(0, n, 60) for n in count), strict=True)]
    for i, j in places:
        wanted = oracle(decoder, features, image, y[i], x[j], (rows.cell, columns.cell))
        assert np.abs(out[i, j] - wanted).max() < 1e-5, (i, j)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16], ids=str)
def test_a_grid_is_its_queries(decoder: Fourier, dtype: torch.dtype | None) -> None:
    features, image = inputs(19, 21, batch=2)
    rows, columns = Axis.whole(19, 50).part(3, 47), Axis.whole(21, 140).part(0, 139)
    position = torch.from_numpy(np.stack(np.meshgrid(rows.positions(), columns.positions(), indexing="ij"), -1))
    position = position.reshape(1, -1, 2).expand(2, -1, -1)
    cell = torch.tensor([rows.cell, columns.cell]).expand_as(position)
    with torch.no_grad():
        field = decoder.prepare(features if dtype is None else features.to(dtype), image, dtype=dtype)
        assert field.codes.dtype == (dtype or torch.float32)
        grid, queried = decoder.render(field, rows, columns), decoder.query(field, position, cell)
    assert (grid.reshape(2, -1, 3) - queried).abs().max() < 1e-5


def test_codes_in_16_bits_leave_the_image_in_32(decoder: Fourier) -> None:
    features, image = inputs(9, 10)
    rows, columns = Axis.whole(9, 31), Axis.whole(10, 29)
    exact = decoder.render(decoder.prepare(features * 0.01, image), rows, columns)
    field = decoder.prepare((features * 0.01).bfloat16(), image, dtype=torch.bfloat16)  # with gradients, as on a GPU
    assert field.codes.dtype == torch.bfloat16 and field.image.dtype == torch.float32
    assert (decoder.render(field, rows, columns) - exact).abs().max() < 0.02 * exact.abs().max()


def test_whole_patches_are_grids_and_teach_everything(decoder: Fourier) -> None:
    features, image = inputs(12, 12, batch=3)
    features.requires_grad_()
    side = torch.tensor([13, 37, 48])
    patches = decoder.patches(decoder.prepare(features, image), side, 48)
    for index, n in enumerate(side.tolist()):
        with torch.no_grad():
            field = decoder.prepare(features[index : index + 1], image[index : index + 1])
            grid = decoder.render(field, Axis.whole(12, n), Axis.whole(12, n))[0]
        assert (patches[index, :n, :n] - grid).abs().max() < 1e-5
        assert not patches[index, n:].any() and not patches[index, :, n:].any()
    patches.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in decoder.parameters())
    assert features.grad is not None and features.grad.abs().max() > 0


@pytest.mark.parametrize("dtype", [None, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("top", [255, 65535])
def test_at_x1_every_image_comes_back_bit_for_bit(dtype: torch.dtype | None, top: int) -> None:
    torch.manual_seed(0)
    model = SRModel(PRESETS["light"]).eval()
    torch.nn.init.normal_(model.decoder.coefficients.weight, std=0.05)
    pixels = torch.randint(0, top + 1, (1, 3, 14, 17), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        out = model.render(model.encode(pixels / top, dtype=dtype), Axis.whole(14, 14), Axis.whole(17, 17))
        near = model.query(
            model.encode(pixels / top, dtype=dtype),
            torch.tensor([[[3.0, 5.0]]], dtype=torch.float64),
            torch.ones(1, 1, 2),
        )
    assert torch.equal((out * top).round().long().permute(0, 3, 1, 2), pixels)
    bound = 2e-6 if dtype is None else 0.5 / 255  # as the series themselves have it
    assert (near[0, 0] - pixels[0, :, 3, 5] / top).abs().max() < bound


def test_what_lies_on_codes() -> None:
    assert at_codes(Axis.whole(5, 5)) and at_codes(Axis.whole(5, 5).part(2, 4))
    assert not at_codes(Axis.whole(5, 15)) and not at_codes(Axis.whole(5, 5).with_cell(0.5))


def test_a_cell_below_that_of_x4_is_taken_for_it(decoder: Fourier) -> None:
    field = decoder.prepare(*inputs(6, 6))
    position = torch.tensor([[[2.3, 3.1]]], dtype=torch.float64)
    at4, at30, at2 = (decoder.query(field, position, torch.full((1, 1, 2), cell)) for cell in (1 / 4, 1 / 30, 1 / 2))
    assert torch.equal(at4, at30) and not torch.allclose(at4, at2)
