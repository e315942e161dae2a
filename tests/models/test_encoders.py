"""What the encoders compute in, and in which order of memory."""

from collections.abc import Iterator

import pytest
import torch
from tiny_models import golden_model, tiny_config
from torch import nn

from liif_cli.coords import Grid
from liif_cli.models import model as models
from liif_cli.models.encoders.edsr import EDSR
from liif_cli.models.encoders.rdn import RDNConfig
from liif_cli.models.kernels import inplace
from liif_cli.models.model import SRModel
from liif_cli.models.registry import PRESETS, ModelConfig
from liif_cli.rendering.plan import make_plan

RDN = RDNConfig(features=8, blocks=2, layers=2, growth=8)


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def image() -> torch.Tensor:
    return torch.rand(1, 3, 12, 13, generator=torch.Generator().manual_seed(3))


def outputs(model: SRModel, picture: torch.Tensor, dtype: torch.dtype | None = None) -> list[torch.Tensor]:
    """What the encoder's convolutions and its blocks give, and last the encoder itself."""
    seen: list[torch.Tensor] = []
    hooks = [
        module.register_forward_hook(lambda module, inputs, output: seen.append(output))
        for module in model.encoder.modules()
        if isinstance(module, nn.Conv2d)
    ]
    features = model._features(model.normalise(picture).clone(memory_format=torch.channels_last), dtype)
    for hook in hooks:
        hook.remove()
    return [*seen, features]


def instructions(monkeypatch: pytest.MonkeyPatch, *, bf16: bool, fp16: bool) -> None:
    monkeypatch.setattr(models, "fast_bf16_cpu", lambda: bf16)
    monkeypatch.setattr(models, "fast_fp16_cpu", lambda: fp16)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_blocks_compute_in_16_bits_and_are_added_up_in_float32(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    instructions(monkeypatch, bf16=True, fp16=dtype == torch.float16)
    model = golden_model(tiny_config())
    head, *body, features = outputs(model, image(), dtype)
    assert head.dtype == torch.float32
    assert {output.dtype for output in (*body, features)} == {dtype}
    exact = model.encoder(model.normalise(image()))
    with torch.autocast("cpu", dtype):
        coarse = model.encoder(model.normalise(image()))  # with sums in 16 bits as well
        fine = model.encoder.deep(head)
    assert fine.dtype == torch.float32 and torch.equal(features, fine.to(dtype))
    assert 0 < (fine - exact).square().mean() < 0.5 * (coarse - exact).square().mean()


@pytest.mark.parametrize(
    ("encoder", "asked", "native"),
    [
        ("edsr", torch.float32, {"bf16": True, "fp16": True}),
        ("edsr", torch.bfloat16, {"bf16": False, "fp16": False}),
        ("edsr", torch.float16, {"bf16": True, "fp16": False}),  # who asks for fp16 asks for more than bf16
        ("rdn", torch.bfloat16, {"bf16": True, "fp16": False}),
    ],
)
def test_elsewhere_encoders_compute_in_float32(
    encoder: str, asked: torch.dtype, native: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    instructions(monkeypatch, **native)
    config = tiny_config()
    model = golden_model(ModelConfig(RDN, config.decoder) if encoder == "rdn" else config)
    assert {output.dtype for output in outputs(model, image(), asked)} == {torch.float32}


@pytest.mark.parametrize("strides", ["planes", "pixels", "one image of a turned array"])
def test_convolutions_work_on_pixels_whole(strides: str) -> None:
    """oneDNN is up to a half faster so, and torch goes by strides, those of a batch of one included."""
    picture = {
        "planes": image(),
        "pixels": image().contiguous(memory_format=torch.channels_last),
        "one image of a turned array": image()[0].permute(1, 2, 0).contiguous().permute(2, 0, 1)[None],
    }[strides]
    model = golden_model(tiny_config())
    seen: list[torch.Tensor] = []
    for module in model.encoder.modules():
        if isinstance(module, nn.Conv2d):
            assert module.weight.is_contiguous(memory_format=torch.channels_last)
            module.register_forward_hook(lambda module, inputs, output: seen.append(output))
    model.encode(picture)
    assert len(seen) > 3
    for output in seen:
        _, channels, height, width = output.shape
        assert output.stride() == (channels * height * width, 1, channels * width, channels)


@pytest.mark.parametrize("sixteen", [False, True])
@pytest.mark.parametrize("scale", [1.0, 0.1])
def test_blocks_that_overwrite_their_input_give_what_gradients_need(
    sixteen: bool, scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without gradients memory is reused; neither the numbers nor what goes in may show it. Pieces end inside the image."""
    monkeypatch.setattr(inplace, "PIECE", 600)
    torch.manual_seed(5)
    encoder = EDSR(features=8, blocks=3, residual_scale=scale).to(memory_format=torch.channels_last)
    pixels = torch.randn(2, 3, 21, 13).to(memory_format=torch.channels_last)
    before = pixels.clone()
    with torch.autocast("cpu", torch.bfloat16, enabled=sixteen):
        shallow = encoder.shallow(pixels).float()
        kept = shallow.clone()
        reused = encoder.deep(shallow)
        with torch.enable_grad():
            wanted = encoder.deep(shallow)
    assert torch.equal(reused, wanted) and torch.equal(shallow, kept) and torch.equal(pixels, before)
    assert reused.dtype == torch.float32 and reused.data_ptr() != shallow.data_ptr()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_relu_in_place(dtype: torch.dtype) -> None:
    values = torch.tensor([-torch.inf, -3.5, -1e-7, -0.0, 0.0, 1e-7, 3.5, torch.inf], dtype=dtype)
    wanted = values.relu()
    assert inplace.relu_(values) is values and torch.equal(values, wanted)


def test_rdn_needs_no_gibibytes_for_a_small_image() -> None:
    """Its blocks' outputs are fused one by one, not kept."""
    model = SRModel(PRESETS["rdn-liif"])
    assert sum(parameter.numel() for parameter in model.parameters()) == 22_320_835
    size = (256, 256)
    plan = make_plan(model, size, [Grid.whole(size, (512, 512))], 3, budget=2**40)
    assert plan.count == 1 and plan.peak < 750 * 2**20
