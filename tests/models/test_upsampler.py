"""Up-sampling modules: every scale and layout in tiles and within its plan; the names; the EDSR release's own arithmetic."""

from typing import Any

import numpy as np
import pytest
import torch
from live_bytes import Live
from tiny_models import golden_model
from torch import Tensor, nn
from torch.nn import functional as F

from liif_cli.coords import Grid
from liif_cli.errors import UsageError
from liif_cli.models.decoders.upsampler import UpSamplerConfig
from liif_cli.models.encoders.edsr import EDSRConfig
from liif_cli.models.encoders.rdn import RDNConfig
from liif_cli.models.model import SRModel
from liif_cli.models.registry import ModelConfig
from liif_cli.rendering.plan import tile_bytes
from liif_cli.rendering.renderer import render_image
from liif_cli.rendering.tiles import Tile

SIZE = (22, 31)
IMAGE = np.random.default_rng(0).random((*SIZE, 3), np.float32)
every_module = pytest.mark.parametrize(
    ("scale", "layout"), [(2, "rdn"), (3, "edsr"), (4, "edsr"), (4, "rdn"), (8, "edsr")]
)


def tiny(scale: Any, layout: Any, **normalisation: Any) -> SRModel:
    encoder = EDSRConfig(features=8, blocks=1) if layout == "edsr" else RDNConfig("rdn", 8, 1, 2, 4)
    return golden_model(ModelConfig(encoder, UpSamplerConfig(scale=scale, layout=layout), **normalisation))


def grid(scale: int, size: tuple[int, int] = SIZE) -> Grid:
    return Grid.whole(size, (size[0] * scale, size[1] * scale))


@every_module
def test_tiles_leave_no_trace(scale: int, layout: str) -> None:
    model = tiny(scale, layout)
    whole = render_image(model, IMAGE, grid(scale))
    assert whole.std() > 0.01
    np.testing.assert_allclose(render_image(model, IMAGE, grid(scale), side=7), whole, atol=1e-6, rtol=0)


@every_module
@torch.no_grad()
def test_memory_is_within_the_plan(scale: int, layout: str) -> None:
    model = tiny(scale, layout)
    with Live() as live:
        render_image(model, IMAGE, grid(scale))
    result = 3 * 3 * 4 * SIZE[0] * SIZE[1] * scale**2
    assert live.peak <= tile_bytes(model, SIZE, Tile(0, SIZE[0], 0, SIZE[1]), 64) + result + 2**16


@torch.no_grad()
def test_a_query_is_the_pixel_that_it_lies_in() -> None:
    model = tiny(3, "edsr")
    whole = model.render(field := model.encode(pixels()), *vars(grid(3)).values())
    position = torch.rand(1, 50, 2, generator=torch.Generator().manual_seed(0)).double() * torch.tensor(SIZE) - 0.5
    y, x = ((position[0, :, i] + 0.5).mul(3).floor().long() for i in (0, 1))
    torch.testing.assert_close(model.query(field, position, torch.ones_like(position)), whole[:, y, x])


def test_the_names_are_the_authors() -> None:
    assert {"head.0.weight", "body.0.body.2.bias", "tail.0.2.weight", "tail.1.bias"} <= set(tiny(4, "edsr").export())
    assert {"SFENet1.weight", "GFF.1.bias", "UPNet.2.weight", "UPNet.4.bias"} <= set(tiny(4, "rdn").export())


def test_another_scale_is_refused() -> None:
    with pytest.raises(UsageError, match="cannot render 93x66 pixels: it renders only ×2"):
        render_image(tiny(2, "edsr"), IMAGE, grid(3))


def pixels() -> Tensor:
    return torch.from_numpy(IMAGE.transpose(2, 0, 1).copy()).unsqueeze(0)


@torch.no_grad()
def test_the_edsr_release_is_a_normalisation() -> None:
    """Its mean shift of 0 to 255, as the release computes it, against mean and std."""
    mean = (0.4488, 0.4371, 0.4040)
    model = tiny(2, "edsr", mean=mean, std=(1 / 255,) * 3)
    weights, shift = model.export(), 255 * torch.tensor(mean).view(3, 1, 1)

    def conv(name: str, x: Tensor) -> Tensor:
        return F.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], padding=1)

    x = head = conv("head.0", 255 * pixels() - shift)
    x = conv("body.1", x + conv("body.0.body.2", conv("body.0.body.0", x).relu())) + head
    released = (conv("tail.1", nn.PixelShuffle(2)(conv("tail.0.0", x))) + shift) / 255
    ours = model.render(model.encode(pixels()), *vars(grid(2)).values())
    torch.testing.assert_close(ours, released.permute(0, 2, 3, 1), atol=1e-5, rtol=1e-5)
