"""LTE against its authors' formulation, written out plainly: nearest codes by `grid_sample`, area weights, the LR image."""

import math

import torch
from tiny_models import golden_model
from torch import Tensor
from torch.nn import functional as F

from liif_cli.coords import pixel_centres
from liif_cli.models.decoders.lte import LTEConfig
from liif_cli.models.encoders.edsr import EDSRConfig
from liif_cli.models.registry import ModelConfig

SIZE = (7, 9)


def sampled(grid: Tensor, coord: Tensor, mode: str = "nearest") -> Tensor:
    found = F.grid_sample(grid, coord.flip(-1).unsqueeze(1), mode=mode, padding_mode="border", align_corners=False)
    return found[:, :, 0].permute(0, 2, 1)


@torch.no_grad()
def test_it_is_the_authors_formulation() -> None:
    model = golden_model(ModelConfig(EDSRConfig(features=8, blocks=1), LTEConfig(width=12, hidden=(16, 16)))).double()
    rng = torch.Generator().manual_seed(0)
    image = torch.rand(1, 3, *SIZE, generator=rng).double()
    coord = 1.9 * torch.rand(1, 60, 2, generator=rng).double() - 0.95
    cell = torch.rand(1, 60, 2, generator=rng).double() / 10
    size = torch.tensor(SIZE).double()
    pixels = model.normalise(image)
    features, decoder = model.encoder(pixels), model.decoder
    centres = [torch.from_numpy(pixel_centres(n)) for n in SIZE]
    places = torch.stack(torch.meshgrid(*centres, indexing="ij")).unsqueeze(0)
    colours, areas = [], []
    for vy in (-1, 1):
        for vx in (-1, 1):
            near = (coord + torch.tensor([vy, vx]) / size + 1e-6).clamp(-1 + 1e-6, 1 - 1e-6)
            relative = (coord - sampled(places, near)) * size
            frequencies = torch.stack(sampled(decoder.freq(features), near).split(2, -1), -1)
            angle = (frequencies * relative.unsqueeze(-1)).sum(-2) + decoder.phase(cell * size)
            basis = torch.cat([(math.pi * angle).cos(), (math.pi * angle).sin()], -1)
            colours.append(decoder.imnet(sampled(decoder.coef(features), near) * basis))
            areas.append(relative.prod(-1).abs() + 1e-9)
    blended = sum(c * (a / sum(areas)).unsqueeze(-1) for c, a in zip(colours, areas[::-1], strict=True))
    wanted = model.denormalise(blended + sampled(pixels, coord, "bilinear"))
    torch.testing.assert_close(model(image, coord, cell), wanted, atol=1e-6, rtol=1e-6)


def test_the_names_are_the_authors() -> None:
    names = golden_model(ModelConfig(EDSRConfig(features=8, blocks=1), LTEConfig())).export()
    assert {"encoder.head.0.weight", "coef.bias", "freq.weight", "phase.weight", "imnet.layers.6.bias"} <= set(names)
