"""`encode`: images of every type, several threads, and the memory budget."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms
from tiny_models import golden_model
from typed_calls import calls

import liif_cli
from liif_cli.errors import InputError, LiifError, LimitError, UsageError
from liif_cli.models.decoders.fourier import Fourier
from liif_cli.models.decoders.liif import LIIF
from liif_cli.models.encoders.edsr import EDSR
from liif_cli.models.model import SRModel
from liif_cli.models.registry import ModelConfig
from liif_cli.rendering import canvas
from liif_cli.upscaling.api import ContinuousBatch

RNG = np.random.default_rng(5)
PIXELS = RNG.integers(0, 256, (20, 30, 3), np.uint8)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes of all images that are encoded, as it happens."""
    seen: list[tuple[int, ...]] = []
    encode = SRModel.encode
    monkeypatch.setattr(SRModel, "encode", lambda self, x, *rest: seen.append(tuple(x.shape)) or encode(self, x, *rest))
    return seen


def small_tiles(monkeypatch: pytest.MonkeyPatch, model: SRModel, side: int = 7) -> None:
    """Tiles of `side` pixels at most, whatever the halo."""
    monkeypatch.setattr(canvas, "SIDE", side)
    monkeypatch.setattr(canvas, "HALOS", 0)


@pytest.mark.parametrize("kind", ["HWC", "CHW", "HW"])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float32, torch.float16, torch.float64], ids=str)
def test_tensors_come_back_as_they_went(tiny: SRModel, dtype: torch.dtype, kind: Any) -> None:
    floats = torch.from_numpy(PIXELS.astype(np.float32) / 255)
    top = torch.iinfo(dtype).max if not dtype.is_floating_point else 1
    image = (floats * top).round().to(dtype) if top > 1 else floats.to(dtype)
    image = {"HWC": image, "CHW": image.permute(2, 0, 1), "HW": image[..., 0]}[kind]
    out = liif_cli.encode(image, model=tiny, precision="fp32", layout="auto" if kind == "CHW" else "HWC").render(1.5)
    assert out.dtype == dtype and out.shape == {"HWC": (30, 45, 3), "CHW": (3, 30, 45), "HW": (30, 45)}[kind]
    if kind != "HW" and dtype == torch.uint8:
        array = liif_cli.upscale(PIXELS, scale=1.5, model=tiny, precision="fp32")
        np.testing.assert_array_equal(out if kind == "HWC" else out.permute(1, 2, 0), array)


def test_what_the_caller_changes_later_changes_nothing(tiny: SRModel) -> None:
    own = PIXELS.copy()
    image = liif_cli.encode(own, model=tiny)
    own[:] = 0
    np.testing.assert_array_equal(image.render(2), liif_cli.encode(PIXELS, model=tiny).render(2))


def test_arrays_may_have_their_planes_first(tiny: SRModel) -> None:
    planes = liif_cli.upscale(np.moveaxis(PIXELS, 2, 0), scale=2, model=tiny, layout="CHW")
    np.testing.assert_array_equal(np.moveaxis(planes, 0, 2), liif_cli.upscale(PIXELS, scale=2, model=tiny))


@pytest.mark.parametrize(("low", "high"), [(0, 255), (-0.1, 1), (0, 1.001)])
def test_floats_out_of_range_are_an_error_that_says_so(tiny: SRModel, low: float, high: float) -> None:
    image = np.linspace(low, high, 48).reshape(4, 4, 3)
    for each in (image, torch.from_numpy(image).permute(2, 0, 1)):
        with pytest.raises(InputError, match=rf"go from {low:g} to {high:g}; expected values in \[0, 1\]"):
            liif_cli.encode(each, model=tiny)


def test_orientation_is_applied_and_the_profile_kept(tiny: SRModel, tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned right by a quarter
    Image.fromarray(PIXELS).save(tmp_path / "in.png", exif=exif, icc_profile=profile, dpi=(72, 72))
    upright = np.rot90(PIXELS, -1)
    wanted = liif_cli.upscale(upright, scale=2, model=tiny, precision="fp32")
    for source in (tmp_path / "in.png", str(tmp_path / "in.png"), Image.open(tmp_path / "in.png")):
        encoded = liif_cli.encode(source, model=tiny, precision="fp32")  # type: ignore[call-overload]
        assert encoded.size == (20, 30)
        out = encoded.render(scale=2)
        assert out.info["icc_profile"] == profile and round(out.info["dpi"][0]) == 72
        np.testing.assert_array_equal(np.asarray(out), wanted)


def test_a_file_with_16_bits_in_colour_says_what_became_of_them(tiny: SRModel, tmp_path: Path) -> None:
    import pyvips

    deep = pyvips.Image.new_from_array(PIXELS.astype(np.uint16) * 257, interpretation="rgb16")
    deep.write_to_file(str(tmp_path / "deep.png"))
    encoded = liif_cli.encode(tmp_path / "deep.png", model=tiny)
    assert encoded.render(2).mode == "RGB" and any("8 bits per sample" in note for note in encoded.notes)


def test_sizes_regions_and_cells(tiny: SRModel) -> None:
    image = liif_cli.encode(PIXELS, model=tiny, precision="fp32")
    assert image.size == (30, 20)
    assert image.render(scale=(2, 1.5)).shape == (30, 60, 3)
    assert image.render(scale="2x1.5").shape == (30, 60, 3)
    assert image.render(size=(33, 44)).shape == (44, 33, 3)
    assert image.render(size=(60, 60), fit="contain").shape == (40, 60, 3)
    assert image.render(size="60x").shape == (40, 60, 3)
    part = image.render(2, region=(5, 4, 10, 8))
    np.testing.assert_array_equal(part, image.render(2)[8:24, 10:30])
    assert (image.render(8, cell="clip") != image.render(8)).any()
    assert image.render(0.5).shape == (10, 15, 3)  # the filter, as everywhere


def test_a_second_region_or_scale_costs_only_decoding(
    tiny: SRModel, counted: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    small_tiles(monkeypatch, tiny)
    image = liif_cli.encode(PIXELS, model=tiny)
    assert not counted, "nothing is encoded before it is needed"
    image.render(2, region=(0, 0, 5, 5))
    assert len(counted) == 1
    for scale in (2, 3.3, 7):
        image.render(scale)
    image.query(np.zeros((3, 2)))
    assert image.latent.shape[:2] == (20, 30)
    assert len(counted) == 15  # 3 by 5 tiles


def test_encodings_stay_within_their_budget(tiny: SRModel, counted: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    small_tiles(monkeypatch, tiny)
    free = liif_cli.encode(PIXELS, model=tiny)
    wanted = free.render(2)
    total = free._canvas.cache.bytes
    tight = liif_cli.encode(PIXELS, model=tiny, kept=total // 3)
    for _ in range(2):
        np.testing.assert_array_equal(tight.render(2), wanted)
        assert 0 < tight._canvas.cache.bytes <= total // 3
    assert len(counted) > 30  # 15, and again what was dropped
    np.testing.assert_array_equal(tight.render(2, region=(25, 15, 5, 5)), wanted[30:, 50:])


def test_memory_that_runs_out_is_given_back_first(tiny: SRModel, monkeypatch: pytest.MonkeyPatch) -> None:
    encode, fails = SRModel.encode, iter([True])
    monkeypatch.setattr(SRModel, "encode", lambda *a: encode(*a) if not next(fails, False) else _no_memory())
    image = liif_cli.encode(PIXELS, model=tiny, precision="fp32")
    out = image.render(2)
    assert any("out of memory with tiles" in note for note in image.notes)
    assert np.abs(out.astype(int) - liif_cli.upscale(PIXELS, scale=2, model=tiny, precision="fp32")).max() <= 1


def _no_memory() -> None:
    raise MemoryError


def test_eight_threads_give_the_bits_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """With torch's own threads below them; and nothing that belongs to the process changes while they run."""
    model = golden_model(ModelConfig(EDSR.tiny, LIIF.tiny))
    small_tiles(monkeypatch, model)
    torch.set_num_threads(2)
    try:
        alone = [liif_cli.encode(PIXELS, model=model).render(scale) for scale in (1.5, 2, 3)]
        image, state = liif_cli.encode(PIXELS, model=model, kept=20_000), flags()
        stop, changes = threading.Event(), []

        def look() -> None:
            while not stop.wait(0.002):
                with ThreadPoolExecutor(1) as fresh:  # a thread that torch has not seen takes the process's number
                    changes.extend([fresh.submit(flags).result()] * (fresh.submit(flags).result() != state))

        with ThreadPoolExecutor(9) as pool:
            watch = pool.submit(look)
            found = list(pool.map(image.render, (1.5, 2, 3) * 4))
            stop.set()
            watch.result()
        assert not changes and flags() == state
    finally:
        torch.set_num_threads(1)
    for number, out in enumerate(found):
        np.testing.assert_array_equal(out, alone[number % 3])


def flags() -> tuple[Any, ...]:
    """The settings of the process that rendering must not change."""
    return (
        torch.get_num_threads(),
        torch.backends.cuda.matmul.fp32_precision,  # type: ignore[attr-defined]
        torch.backends.cudnn.conv.fp32_precision,  # type: ignore[attr-defined]
        torch.is_grad_enabled(),
        Image.MAX_IMAGE_PIXELS,
    )


class TestQuery:
    def test_it_is_the_model_at_any_coords(self, tiny: SRModel, monkeypatch: pytest.MonkeyPatch) -> None:
        coord = RNG.uniform(-1, 1, (50, 2))
        tensor = torch.from_numpy(PIXELS.astype(np.float32) / 255).permute(2, 0, 1)[None]
        with torch.no_grad():
            wanted = tiny(tensor, torch.from_numpy(coord)[None], torch.full((1, 50, 2), 0.01))[0].numpy()
        small_tiles(monkeypatch, tiny)
        image = liif_cli.encode(PIXELS, model=tiny, precision="fp32")
        for cell in (np.full((50, 2), 0.01), np.full(2, 0.01)):
            found = image.query(coord, cell)
            assert isinstance(found, np.ndarray) and found.dtype == np.float32
            np.testing.assert_allclose(found, wanted, atol=1e-5)
        pixel = (coord + 1) / 2 * (20, 30) - 0.5
        cells = 0.01 / 2 * np.array([20, 30])
        np.testing.assert_allclose(image.query(pixel, cells, unit="pixel"), wanted, atol=1e-5)
        again = image.query(torch.from_numpy(coord), torch.full((2,), 0.01))
        assert isinstance(again, torch.Tensor)
        np.testing.assert_allclose(again, wanted, atol=1e-5)

    def test_the_default_cell_is_the_smallest_that_was_trained(self, tiny: SRModel) -> None:
        image = liif_cli.encode(PIXELS, model=tiny, precision="fp32")
        coord = RNG.uniform(-1.2, 1.2, (9, 2))  # beyond the border too
        quarter = np.full(2, 0.25)
        np.testing.assert_array_equal(
            image.query(coord), image.query((coord + 1) / 2 * (20, 30) - 0.5, quarter, unit="pixel")
        )

    def test_pixels_of_a_rendering_are_its_queries(self, tiny: SRModel) -> None:
        image = liif_cli.encode(PIXELS.astype(np.float32) / 255, model=tiny, precision="fp32")
        rows, columns = np.mgrid[0:40, 0:60]
        at = (np.stack([rows, columns], -1).reshape(-1, 2) + 0.5) / 2 - 0.5
        found = image.query(at, np.full(2, 0.5), unit="pixel").reshape(40, 60, 3).clip(0, 1)
        np.testing.assert_allclose(image.render(2), found, atol=1e-5)

    @pytest.mark.parametrize("decoder", [LIIF.tiny, Fourier.tiny], ids=["liif", "fourier"])
    def test_gradients(self, decoder: Any) -> None:
        model = golden_scalars(ModelConfig(EDSR.tiny, decoder))
        image = liif_cli.encode(PIXELS, model=model, precision="fp32")
        coord = torch.tensor([[3.3, 4.6], [17.2, 25.9]], dtype=torch.float64, requires_grad=True)
        cell = torch.tensor([0.4, 0.6], dtype=torch.float64, requires_grad=True)
        out = image.query(coord, cell, unit="pixel", differentiable=True)
        plain = image.query(coord.detach(), cell.detach(), unit="pixel")
        torch.testing.assert_close(out.detach(), plain, atol=1e-5, rtol=1e-5)
        grad_coord, grad_cell, *of_model = torch.autograd.grad(out.sum(), [coord, cell, *model.encoder.parameters()])
        assert all(bool(grad.any()) for grad in of_model)
        step = 0.02
        for axis in (0, 1):
            move = torch.zeros(2, dtype=torch.float64)
            move[axis] = step
            by_coord = [image.query(coord.detach() + s * move, cell.detach(), unit="pixel").sum(1) for s in (1, -1)]
            torch.testing.assert_close(
                ((by_coord[0] - by_coord[1]) / (2 * step)).double(), grad_coord[:, axis], atol=0.05, rtol=0.1
            )
            by_cell = [image.query(coord.detach(), cell.detach() + s * move, unit="pixel").sum() for s in (1, -1)]
            torch.testing.assert_close(
                ((by_cell[0] - by_cell[1]) / (2 * step)).double(), grad_cell[axis], atol=0.05, rtol=0.1
            )


def golden_scalars(config: ModelConfig) -> SRModel:
    """A model with fixed parameters, trainable."""
    torch.manual_seed(3)
    model = SRModel(config).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.5 / parameter[0].numel() ** 0.5)
    return model


def test_the_latent_grid_is_the_codes(tiny: SRModel, monkeypatch: pytest.MonkeyPatch) -> None:
    tensor = torch.from_numpy(PIXELS.astype(np.float32) / 255).permute(2, 0, 1)[None]
    with torch.no_grad():
        wanted = tiny.encode(tensor).latent[0]
    small_tiles(monkeypatch, tiny)
    latent = liif_cli.encode(PIXELS, model=tiny, precision="fp32").latent
    assert latent.shape == (20, 30, 16) and latent.dtype == torch.float32
    torch.testing.assert_close(latent, wanted, atol=1e-5, rtol=0)


class TestBatches:
    def test_lists(self, tiny: SRModel) -> None:
        images = [PIXELS, PIXELS[:10], PIXELS[..., 0]]
        out = liif_cli.upscale(images, scale=2, model=tiny)
        for one, image in zip(out, images, strict=True):
            np.testing.assert_array_equal(one, liif_cli.upscale(image, scale=2, model=tiny))
        assert [each.size for each in liif_cli.encode(images, model=tiny)] == [(30, 20), (30, 10), (30, 20)]

    def test_tensors_with_four_axes(self, tiny: SRModel) -> None:
        batch = torch.rand(3, 3, 9, 8, generator=torch.Generator().manual_seed(0))
        encoded = liif_cli.encode(batch, model=tiny, precision="fp32")
        assert isinstance(encoded, ContinuousBatch) and encoded.size == (8, 9) and not encoded.notes
        out = encoded.render(1.5)
        assert out.shape == (3, 3, 14, 12)
        torch.testing.assert_close(out[1], liif_cli.upscale(batch[1], scale=1.5, model=tiny, precision="fp32"))
        assert encoded.query(torch.zeros(4, 2)).shape == (3, 4, 3) and encoded.latent.shape == (3, 9, 8, 16)
        assert liif_cli.upscale(batch, scale=2, model=tiny).shape == (3, 3, 18, 16)


WRONG: list[tuple[type[LiifError], Callable[[SRModel], Any]]] = [
    (UsageError, lambda model: liif_cli.encode({}, model=model)),  # type: ignore[call-overload]
    (UsageError, lambda model: liif_cli.encode([], model=model)),
    (UsageError, lambda model: liif_cli.encode(np.zeros((3, 4, 9), np.uint8), model=model)),
    (UsageError, lambda model: liif_cli.encode(torch.zeros(4, 4, dtype=torch.int64), model=model)),
    (InputError, lambda model: liif_cli.encode("gone.png", model=model)),
    (UsageError, lambda model: liif_cli.encode(PIXELS, model=model).render()),
    (UsageError, lambda model: liif_cli.encode(PIXELS, model=model).render(2, size=(3, 3))),
    (UsageError, lambda model: liif_cli.encode(PIXELS, model=model).render(-1)),
    (UsageError, lambda model: liif_cli.encode(PIXELS, model=model).render(2, region=(0, 0, 99, 1))),
    (UsageError, lambda model: liif_cli.encode(PIXELS, model=model).render(2, cell="3")),
    (UsageError, lambda model: liif_cli.encode(PIXELS, model=model).render(size="9x9", fit="fill")),  # type: ignore[arg-type]
    (LimitError, lambda model: liif_cli.encode(PIXELS, model=model).render(1e6)),
    (UsageError, lambda model: liif_cli.encode(PIXELS, model=model).query(np.zeros(2))),
    (UsageError, lambda model: liif_cli.encode(PIXELS, model=model).query(np.full((1, 2), np.nan))),
    (UsageError, lambda model: liif_cli.encode(PIXELS, model=model).query(np.zeros((4, 2)), np.zeros((3, 2)))),
    (UsageError, lambda model: liif_cli.encode(PIXELS, model=model).query(np.zeros((4, 2)), unit="mm")),  # type: ignore[arg-type]
    (UsageError, lambda model: liif_cli.encode(PIXELS, model=model).query(np.zeros((4, 2)), differentiable=True)),
    (UsageError, lambda model: liif_cli.upscale(PIXELS, model=model)),
]


@pytest.mark.parametrize(("error", "call"), WRONG)
def test_errors_name_arguments(
    tiny: SRModel, error: type[LiifError], call: Callable[[SRModel], Any], tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error) as caught:
        call(tiny)
    assert "--" not in str(caught.value) and "--" not in (caught.value.hint or "")


def test_a_type_checker_infers_the_types(tiny: SRModel, tmp_path: Path) -> None:
    """`mypy --strict` reads the file in CI; here its calls run."""
    Image.fromarray(PIXELS).save(tmp_path / "in.png")
    calls(tiny, tmp_path / "in.png")
