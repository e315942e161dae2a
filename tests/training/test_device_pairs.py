"""Data on the device, tried on CPU tensors: the same pairs as the CPU's, LR within a level of Pillow's."""

import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from liif_cli.models.model import SRModel
from liif_cli.training import degradations
from liif_cli.training.device_pairs import DevicePairs, key_of, reduction, scramble
from liif_cli.training.pairs import Pairs, most_detailed, turn
from liif_cli.training.recipe import DataConfig, EMAConfig, OptimiserConfig, TrainConfig
from liif_cli.training.sources import ImageFolders
from liif_cli.training.trainer import Trainer


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Pairs of noise and of smooth images, of several sizes."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for number, shape in enumerate([(200, 240), (192, 192), (301, 200)]):
        pixels = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
        if number == 1:
            pixels = np.asarray(Image.fromarray(pixels[:12, :12]).resize(shape, Image.Resampling.BICUBIC))
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return Pairs(
        ImageFolders([folder], 192), patch=48, scale=(1.0, 4.0), queries=200, seed=3, identity=0.1, candidates=3
    )


@pytest.mark.parametrize("side", [48, 49, 60, 95, 96, 131, 144, 191, 192])
def test_reduction_is_pillows_to_one_level(side):
    rng = np.random.default_rng(side)
    hr = rng.integers(0, 2, (side, side, 3), dtype=np.uint8) * 255  # the hardest: every pass overshoots
    kernel = reduction(side, 48, 192)
    assert torch.all(kernel[:, side:] == 0)
    across = ((kernel[:, :side] @ torch.from_numpy(hr).float()) + 0.5).floor().clamp(0, 255)
    ours = ((torch.einsum("ph,hoc->poc", kernel[:, :side], across)) + 0.5).floor().clamp(0, 255)
    difference = np.abs(ours.numpy() - degradations.clean(hr, 48).astype(float))
    assert difference.max() <= 1


def test_same_pairs_as_on_the_cpu(pairs):
    numbers = range(5, 45)
    batch = DevicePairs(pairs, torch.device("cpu")).batch(numbers)
    levels = []
    for i, number in enumerate(numbers):
        draw, _ = pairs.draw(number)
        lr = pairs.pair(number)[0]
        levels.append(np.abs(batch.lr[i].permute(1, 2, 0).numpy().astype(int) - lr.astype(int)))
        hr = turn(most_detailed(pairs.images[draw.image], draw), draw.flips)
        pixel = ((batch.position[i] + 0.5) * draw.side / 48 - 0.5).round().long()
        assert len({tuple(p) for p in pixel.tolist()}) == 200  # without replacement
        assert np.array_equal(batch.rgb[i].numpy(), hr[pixel[:, 0], pixel[:, 1]])
        assert torch.allclose(batch.cell[i], torch.tensor(48 / draw.side, dtype=torch.float64))
    assert max(level.max() for level in levels) <= 1
    assert np.mean(np.concatenate([level.ravel() for level in levels]) > 0) < 0.001


def test_a_pairs_pixels_depend_on_its_number_alone(pairs):
    device = DevicePairs(pairs, torch.device("cpu"))
    together, alone = device.batch(range(8)), device.batch(range(5, 6))
    assert torch.equal(together.position[5], alone.position[0])
    assert not torch.equal(together.position[4], alone.position[0])
    other = DevicePairs(Pairs(pairs.images, patch=48, scale=(1.0, 4.0), queries=200, seed=4), torch.device("cpu"))
    assert not torch.equal(other.batch(range(5, 6)).position, alone.position)


def test_sampling_is_uniform_and_each_pairs_own(pairs):
    device = DevicePairs(Pairs(pairs.images, patch=16, scale=(1.0, 4.0), queries=200, seed=3), torch.device("cpu"))
    key = torch.tensor([key_of(3, number) for number in range(2000)])
    index = device._sample(key, torch.full_like(key, 60))
    counts = torch.bincount(index.flatten(), minlength=3600).double()
    assert len(counts) == 3600 and counts.sum() == 2000 * 200
    expected, deviation = 2000 * 200 / 3600, (2000 * (200 / 3600) * (1 - 200 / 3600)) ** 0.5
    assert abs(counts - expected).max() < 5 * deviation and counts.std() < 1.1 * deviation
    together = torch.zeros(2000, 3600, dtype=torch.bool).scatter_(1, index, True).double()
    shared = (together[:-1] * together[1:]).sum(1)  # of two pairs in a row: as of any two
    assert shared.mean() == pytest.approx(200 * 200 / 3600, rel=0.03)


def test_a_hash_that_loses_nothing():
    values = torch.arange(2**20)
    assert scramble(values).unique().numel() == 2**20 and scramble(values).max() < 2**32
    assert [scramble(n) for n in range(1000)] == scramble(values[:1000]).tolist()
    assert len({key_of(seed, number) for seed in range(10) for number in range(1000)}) == 10_000


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_agrees_with_the_cpu(pairs):
    on_cpu, on_gpu = (DevicePairs(pairs, torch.device(name)).batch(range(16)) for name in ("cpu", "cuda"))
    assert (on_cpu.lr.int() - on_gpu.lr.cpu().int()).abs().max() <= 1
    order = [
        (b.position.cpu() @ torch.tensor([1e4, 1.0], dtype=torch.float64)).argsort(1).unsqueeze(-1)
        for b in (on_cpu, on_gpu)
    ]  # which are sampled is the same, not in which order
    for name in ("position", "rgb"):
        a, b = (getattr(x, name).cpu().take_along_dim(o, 1) for x, o in zip((on_cpu, on_gpu), order, strict=True))
        assert torch.equal(a, b), name


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_nothing_in_a_step_waits_for_the_gpu(pairs):
    config = TrainConfig(
        data=DataConfig(queries=200), optimiser=OptimiserConfig("muon", clip=1.0), ema=EMAConfig(0.99), precision="bf16"
    )
    device = torch.device("cuda")
    trainer, data = Trainer(config, SRModel(config.model), device), DevicePairs(pairs, device)
    trainer.step(data.batch(range(8)))  # what is waited for once
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the mode is a prototype
        torch.cuda.set_sync_debug_mode("error")
    try:
        trainer.step(data.batch(range(8, 16)))
    finally:
        torch.cuda.set_sync_debug_mode("default")
