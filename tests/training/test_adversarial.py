"""Adversarial training: its losses, the discriminator, and a run that stops and continues."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import structural_similarity

from liif_cli.errors import UsageError
from liif_cli.models.decoders.fourier import FourierConfig
from liif_cli.models.encoders.gated import GatedConfig
from liif_cli.models.model import SRModel
from liif_cli.models.registry import ModelConfig
from liif_cli.training.discriminator import Discriminator
from liif_cli.training.objective import PatchObjective, shares
from liif_cli.training.perceptual import artefacts, consistency, ssim, structure
from liif_cli.training.recipe import AdversarialConfig, DataConfig, EMAConfig, OptimiserConfig, TrainConfig
from liif_cli.training.run_folder import Run
from liif_cli.training.train import check, train

SIDES = torch.tensor([24, 17])
SHARE = shares(SIDES, 24)


def patches(seed: int) -> torch.Tensor:
    """(2, 3, 24, 24) in [0, 1], zero beyond each side."""
    return torch.rand(2, 3, 24, 24, generator=torch.Generator().manual_seed(seed)) * (SHARE > 0).unsqueeze(1)


def test_ssim_is_scikit_images() -> None:
    a, b = (torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
    ours = ssim(a.double(), (0.7 * a + 0.3 * b).double())[0].numpy()
    pair = (a[0].double().numpy(), (0.7 * a + 0.3 * b)[0].double().numpy())
    how = {"gaussian_weights": True, "use_sample_covariance": False, "sigma": 1.5, "data_range": 1.0, "full": True}
    theirs = np.stack([structural_similarity(x, y, **how)[1] for x, y in zip(*pair, strict=True)])
    np.testing.assert_allclose(ours[:, 5:-5, 5:-5], theirs[:, 5:-5, 5:-5], atol=1e-6)


@pytest.mark.parametrize("loss", [structure, consistency])
def test_a_loss_is_zero_for_equal_patches_only(loss) -> None:
    real, other = patches(1), patches(2)
    assert loss(real, real, SHARE) == pytest.approx(0, abs=1e-6)
    assert loss(other, real, SHARE) > 0.02


def test_consistency_sees_a_colour_but_no_texture() -> None:
    real = patches(1)
    board = 0.1 * (-1.0) ** (torch.arange(24)[:, None] + torch.arange(24)) * (SHARE > 0).unsqueeze(1)
    shifted = real + 0.1 * (SHARE > 0).unsqueeze(1)
    assert consistency(real + board, real, SHARE) < 0.01
    assert consistency(shifted, real, SHARE) == pytest.approx(0.1, abs=0.01)


def test_artefacts_are_where_the_average_is_better() -> None:
    real = patches(1)
    worse, better = real + 0.3 * (patches(3) - 0.5), real + 0.1 * (patches(3) - 0.5)
    assert artefacts(worse, better, real, SHARE) > 0
    assert artefacts(better, worse, real, SHARE) < 0.02 * artefacts(worse, better, real, SHARE)


def test_a_discriminator_learns_to_tell_and_its_verdict_trains_only_the_renderer() -> None:
    torch.manual_seed(5)
    discriminator = Discriminator(AdversarialConfig(1, features=4, lr=1e-3), torch.device("cpu"), torch.float32)
    real = patches(1)
    smooth = torch.nn.functional.avg_pool2d(real, 5, 1, 2) * (SHARE > 0).unsqueeze(1)
    before = discriminator.fooled(smooth, SHARE)
    for _ in range(40):
        discriminator.learn(real, smooth, SHARE)
    rendered = smooth.clone().requires_grad_()
    discriminator.optimiser.zero_grad()
    verdict = discriminator.fooled(rendered, SHARE)
    verdict.backward()
    assert verdict > before + 0.1 and discriminator.fooled(real, SHARE) < verdict - 0.2
    assert rendered.grad is not None and rendered.grad.abs().max() > 0
    assert (rendered.grad.abs().sum(1)[SHARE == 0] < rendered.grad.abs().max()).all()
    assert all(parameter.grad is None for parameter in discriminator.network.parameters())


@pytest.fixture
def config(tmp_path: Path) -> TrainConfig:
    folder = tmp_path / "images"
    folder.mkdir()
    for seed in range(3):
        pixels = np.random.default_rng(seed).integers(0, 256, (48, 48, 3), np.uint8)
        Image.fromarray(pixels).resize((96, 96), Image.Resampling.BICUBIC).save(folder / f"{seed}.png")
    return TrainConfig(
        name="crisp",
        model=ModelConfig(GatedConfig(features=4, blocks=2), FourierConfig()),
        data=DataConfig(folders=(str(folder),), patch=12, scale=(1.5, 4.0), queries=0),
        optimiser=OptimiserConfig(name="muon", lr=1e-3),
        ema=EMAConfig(0.9),
        adversarial=AdversarialConfig(0.1, features=4),
        iterations=6,
        batch=2,
        workers=1,
        seed=3,
    )


def test_a_run_continues_as_if_it_had_not_stopped(config: TrainConfig, tmp_path: Path) -> None:
    whole = Run.create(tmp_path / "whole", config)
    train(whole, config)
    half = replace(config, iterations=3)
    train(Run.create(tmp_path / "parts", half), half)
    again = Run.open(tmp_path / "parts")
    train(again, config)
    ends = [run.load_state() for run in (whole, again)]
    for part in ("model", "discriminator"):
        one, other = (end[part] if part == "model" else end[part]["network"] for end in ends)
        assert all(torch.equal(one[name], other[name]) for name in one)
    start = SRModel(config.model).state_dict()
    assert any(not torch.equal(start[name], ends[0]["model"][name]) for name in start)


def test_without_a_weight_nothing_is_adversarial(config: TrainConfig, tmp_path: Path) -> None:
    plain = replace(config, adversarial=AdversarialConfig(), iterations=1)
    run = Run.create(tmp_path / "run", plain)
    train(run, plain)
    assert run.load_state()["discriminator"] is None


def test_what_cannot_be_trained_adversarially(config: TrainConfig) -> None:
    for wrong in (replace(config, data=replace(config.data, queries=64)), replace(config, compile=True)):
        with pytest.raises(UsageError, match="cannot train adversarially"):
            check(wrong)


def test_the_loss_over_patches_is_the_mean_over_each() -> None:
    model = SRModel(ModelConfig(GatedConfig(features=4, blocks=2), FourierConfig()))
    objective = PatchObjective(model)
    predicted, wanted = (patches(seed).permute(0, 2, 3, 1) for seed in (1, 2))
    loss, error = objective.compare(predicted, wanted, SIDES, SHARE)
    apart = [(p - w)[:n, :n] for p, w, n in zip(predicted, wanted, SIDES, strict=True)]
    assert loss.item() == pytest.approx(np.mean([each.abs().mean().item() for each in apart]), rel=1e-5)
    assert error.item() == pytest.approx(np.mean([each.square().mean().item() / 4 for each in apart]), rel=1e-5)
