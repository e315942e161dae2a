"""The encoder of `light`: its gates have bounds, so that no image can make it explode."""

import pytest
import torch

from liif_cli.coords import Axis
from liif_cli.models.encoders.gated import GATE, GatedBlock
from liif_cli.models.finite import all_finite
from liif_cli.models.store import load_model


@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize(("bias", "bound"), [(100.0, GATE[1]), (-100.0, GATE[0])])
def test_a_gate_keeps_within_its_bounds(bias: float, bound: float, gradients: bool) -> None:
    torch.manual_seed(0)
    block = GatedBlock(4)
    torch.nn.init.constant_(block.gate.bias, bias)
    x = torch.randn(1, 4, 9, 9)
    with torch.set_grad_enabled(gradients):
        f = block.third(torch.relu(block.second(torch.relu(block.first(x)))))
        assert torch.allclose(block(x.clone()), (x + f) * bound, atol=1e-6)


def patterns() -> dict[str, torch.Tensor]:
    """Images that are no photographs, (1, 3, 48, 48): what single pixels can be at worst."""
    y, x = torch.meshgrid(torch.arange(48), torch.arange(48), indexing="ij")
    noise = torch.rand(48, 48, generator=torch.Generator().manual_seed(0))
    planes = {
        "stripes": x % 2,
        "checks": (x + y) % 2,
        "noise": noise,
        "dots": noise > 0.5,
        "dither": noise > x / 48,
    }
    coloured = torch.rand(1, 3, 48, 48, generator=torch.Generator().manual_seed(1)).round()
    return {key: plane.float().expand(1, 3, -1, -1) for key, plane in planes.items()} | {"coloured dots": coloured}


@pytest.mark.weights
@pytest.mark.parametrize("name", ["light", "light-photo", "light-large"])
@pytest.mark.parametrize("pattern", patterns())
def test_what_is_no_photograph_stays_an_image(name: str, pattern: str) -> None:
    model, axis = load_model(name), Axis.whole(48, 96)
    with torch.inference_mode():
        out = model.render(model.encode(patterns()[pattern]), axis, axis)
    assert out.min() > -4 and out.max() < 5


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_a_single_value_that_is_not_finite_is_found(
    layout: torch.memory_format, value: float, dtype: torch.dtype
) -> None:
    values = torch.randn(1, 3, 40, 50).to(dtype).contiguous(memory_format=layout)
    assert all_finite(values) and all_finite(values[:, :, :0])
    values[0, 1, 39, 17] = value
    assert not all_finite(values) and not all_finite(values[:, :, 1:])
