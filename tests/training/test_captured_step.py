"""A CUDA device's captured step: the numbers of eager steps, and a model of `light` renders there as on the CPU."""

import pytest
import torch

from liif_cli.coords import Axis
from liif_cli.machine.devices import exact_float32
from liif_cli.models.model import SRModel
from liif_cli.models.registry import PRESETS
from liif_cli.training.pairs import Patches
from liif_cli.training.recipe import DataConfig, EMAConfig, OptimiserConfig, TrainConfig
from liif_cli.training.trainer import Trainer

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


def batch(seed: int) -> Patches:
    generator = torch.Generator().manual_seed(seed)
    lr = torch.randint(0, 256, (4, 3, 16, 16), generator=generator, dtype=torch.uint8)
    hr = torch.randint(0, 256, (4, 40, 40, 3), generator=generator, dtype=torch.uint8)
    return Patches(lr, hr, torch.tensor([17, 24, 33, 40]))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("fourier", [0.0, 0.1])
def test_captured_steps_are_eager_ones(precision: str, fourier: float) -> None:
    weights = []
    for captured in (False, True):
        torch.manual_seed(0)
        config = TrainConfig(
            model=PRESETS["light"],
            data=DataConfig(patch=16, queries=0),
            optimiser=OptimiserConfig("muon", lr=1e-3, clip=1.0),
            ema=EMAConfig(0.9),
            precision=precision,
            cuda_graph=captured,
            fourier=fourier,
            frozen=("decoder.correction",),
        )
        trainer = Trainer(config, SRModel(config.model), torch.device("cuda"))
        for number in range(8):
            loss, _ = trainer.step(batch(number).to(torch.device("cuda")))
        assert (trainer.captured is not None) == captured and torch.isfinite(loss)
        weights.append([p.detach().cpu().clone() for p in trainer.published.parameters()])
    for eager, replayed in zip(*weights, strict=True):
        assert torch.allclose(eager, replayed, atol=2e-3 if precision == "bf16" else 2e-4)


@pytest.mark.parametrize("dtype", [None, torch.float16])
def test_light_renders_as_on_the_cpu(dtype: torch.dtype | None) -> None:
    torch.manual_seed(0)
    model = SRModel(PRESETS["light"]).eval()
    torch.nn.init.normal_(model.decoder.coefficients.weight, std=0.02)
    image = torch.rand(1, 3, 45, 70)
    with torch.no_grad(), exact_float32(torch.device("cuda")):
        wanted = model.render(model.encode(image), Axis.whole(45, 113), Axis.whole(70, 203))
        model = model.cuda()
        field = model.encode(image.cuda(), dtype=dtype)
        found = model.render(field, Axis.whole(45, 113), Axis.whole(70, 203)).cpu()
    assert (found - wanted).abs().max() < (1e-4 if dtype is None else 5e-3)
