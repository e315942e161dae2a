"""Alpha: no fringes from hidden colours, exact constants, hard masks that do not ring, flattening."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import liif_cli
from liif_cli.coords import Axis, Grid
from liif_cli.images import write
from liif_cli.images.resize import resample
from liif_cli.images.write import SaveOptions
from liif_cli.models.model import SRModel
from liif_cli.rendering.alpha import ScaledAlpha, bled
from liif_cli.rendering.channels import network_input, network_output
from liif_cli.rendering.sizes import Scale
from liif_cli.upscaling.options import Options
from liif_cli.upscaling.upscaler import Upscaler

Y, X = np.mgrid[0:48, 0:64]
DISC = (Y - 23.5) ** 2 + (X - 30) ** 2 < 15**2
HIDDEN = {"black": (0, 0, 0), "white": (255, 255, 255), "magenta": (255, 0, 255)}


def disc(hidden: tuple[int, int, int], dtype: Any = np.uint8) -> np.ndarray:
    """An orange disc with a hard mask on hidden pixels of another colour."""
    picture = np.empty((48, 64, 4), np.uint8)
    picture[..., :3] = np.where(DISC[..., None], (220, 140, 30), hidden)
    picture[..., 3] = DISC * 255
    return picture if dtype == np.uint8 else picture.astype(np.uint16) * 257


def file_to_file(
    tiny: SRModel, folder: Path, pixels: np.ndarray, name: str, **save: Any
) -> tuple[Path, tuple[str, ...]]:
    Image.fromarray(pixels).save(folder / "in.png")
    upscaler = Upscaler(tiny, Options(precision="fp32", save=SaveOptions(**save)))
    [result] = upscaler.file(folder / "in.png", [(Scale.parse("3"), folder / name)])
    return folder / name, result.notes


def decoded(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image).astype(int)


class TestBleeding:
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
    @pytest.mark.parametrize("hidden", HIDDEN.values(), ids=HIDDEN.keys())
    def test_hidden_colours_leave_no_trace(self, hidden: tuple[int, int, int], dtype: Any) -> None:
        picture = disc(hidden, dtype) if dtype != np.float32 else (disc(hidden) / 255).astype(np.float32)
        out = bled(picture)
        top = {np.uint8: 255, np.uint16: 65535}.get(dtype, 1)
        np.testing.assert_allclose(out / top, np.broadcast_to(np.array([220, 140, 30]) / 255, out.shape), atol=1e-6)
        assert out.dtype == dtype

    def test_visible_pixels_stay(self) -> None:
        picture = np.random.default_rng(0).integers(0, 256, (37, 53, 4), np.uint8)
        picture[5:30, 7:44, 3] = 0
        out = bled(picture)
        seen = picture[..., 3] > 0
        np.testing.assert_array_equal(out[seen], picture[..., :3][seen])

    def test_what_is_filled_comes_from_nearby(self) -> None:
        picture = np.zeros((32, 64, 2), np.uint8)
        picture[:, :4] = (40, 255)
        picture[:, -4:] = (200, 255)
        out = bled(picture)[..., 0].astype(int)
        assert (np.abs(out[:, :10] - 40) <= 8).all() and (np.abs(out[:, -10:] - 200) <= 8).all()
        assert ((out >= 40) & (out <= 200)).all()

    def test_bands_do_not_show(self, monkeypatch: pytest.MonkeyPatch) -> None:
        whole = bled(disc((0, 0, 0)))
        monkeypatch.setattr("liif_cli.rendering.alpha.BAND_ROWS", 4)
        np.testing.assert_array_equal(bled(disc((0, 0, 0))), whole)

    def test_nothing_visible_or_nothing_hidden_is_left_alone(self) -> None:
        for alpha in (0, 255):
            picture = np.dstack([disc((0, 0, 0))[..., :3], np.full((48, 64), alpha, np.uint8)])
            np.testing.assert_array_equal(bled(picture), picture[..., :3])

    @pytest.mark.parametrize("name", ["out.png", "out.webp", "out.tif", "out.avif"])
    def test_no_fringe_whatever_is_hidden(self, tiny: SRModel, tmp_path: Path, name: str) -> None:
        lossless = name.endswith((".webp", ".avif"))
        seen = []
        for hidden in HIDDEN.values():
            path, notes = file_to_file(tiny, tmp_path, disc(hidden), name, lossless=lossless, overwrite=True)
            seen.append(decoded(path))
            assert not notes
        for other in seen[1:]:
            np.testing.assert_array_equal(seen[0], other)

    def test_no_fringe_on_paper(self, tmp_path: Path, tiny: SRModel, monkeypatch: pytest.MonkeyPatch) -> None:
        """With a network that only repeats the colour it saw, the disc on orange paper is all orange: any fringe is ours."""
        monkeypatch.setattr(SRModel, "render", _flat)
        for hidden in HIDDEN.values():
            options = {"background": (220, 140, 30), "lossless": False, "overwrite": True}
            path, _ = file_to_file(tiny, tmp_path, disc(hidden), "out.jpg", quality=100, **options)
            assert np.abs(decoded(path) - (220, 140, 30)).max() <= 2


def _flat(model: SRModel, field: Any, rows: Axis, columns: Axis, *_: Any) -> Any:
    """Stands in for the network: the image of this test is flat once it has bled, and this returns its colour."""
    import torch

    return torch.tensor([220, 140, 30]).div(255).expand(1, len(rows), len(columns), 3)


class TestScaling:
    def test_constant_areas_stay_exact(self) -> None:
        plane = np.zeros((20, 40), np.uint8)
        plane[:, 20:] = 255
        grid = Grid.whole((20, 40), (73, 151))
        alpha = ScaledAlpha.over(plane, grid).part(0, 0, *grid.shape)
        levels = np.rint(alpha * 255)
        position = grid.columns.positions()
        assert (levels[:, position <= 19] == 0).all() and (levels[:, position >= 20] == 255).all()

    @pytest.mark.parametrize("scale", [2, 3.3, 8])
    def test_hard_masks_do_not_ring(self, scale: float) -> None:
        plane = np.where(DISC, 200, 50).astype(np.uint8)
        grid = Grid.whole(plane.shape, (round(48 * scale), round(64 * scale)))
        alpha = ScaledAlpha.over(plane, grid).part(0, 0, *grid.shape) * 255
        assert alpha.min() >= 50 - 1e-3 and alpha.max() <= 200 + 1e-3
        unheld = resample(plane.astype(np.float32)[..., None], *grid.shape) - 0.0
        assert unheld.min() < 49 and unheld.max() > 201  # the plain bicubic does ring

    def test_soft_masks_are_the_bicubic(self) -> None:
        plane = (127 + 100 * np.sin(X / 9) * np.cos(Y / 7)).astype(np.float32)
        grid = Grid.whole(plane.shape, (120, 160))
        ours = ScaledAlpha.over(plane, grid).part(0, 0, 120, 160)
        assert np.abs(ours - resample(plane[..., None], 120, 160)[..., 0])[8:-8, 8:-8].mean() < 0.05

    def test_pieces_equal_the_whole(self) -> None:
        plane = np.random.default_rng(1).integers(0, 65536, (31, 43), np.uint16)
        grid = Grid(Axis(31, 77, 3, 70, 2, 25), Axis(43, 91, 0, 91, 5, 30))
        scaled = ScaledAlpha.over(plane, grid)
        whole = scaled.part(0, 0, *grid.shape)
        pieces = [
            np.concatenate(
                [scaled.part(top, left, min(13, 67 - top), min(17, 91 - left)) for left in range(0, 91, 17)], 1
            )
            for top in range(0, 67, 13)
        ]
        np.testing.assert_array_equal(np.concatenate(pieces), whole)

    def test_shrinking_is_antialiased(self) -> None:
        plane = ((X + Y) % 2 * 255).astype(np.uint8)
        small = ScaledAlpha.over(plane, Grid.whole(plane.shape, (12, 16))).part(0, 0, 12, 16)
        assert np.abs(small[2:-2, 2:-2] - 0.5).max() < 0.02


class TestSoftMasks:
    """Masks with values between transparent and opaque go through the network, as gray does."""

    SOFT = np.clip(255 * (15.5 - np.hypot(Y - 23.5, X - 30)) / 4, 0, 255).astype(np.uint8)

    @pytest.mark.parametrize("name", ["out.png", "out.tif"])
    def test_alpha_is_what_gray_would_be_between_its_neighbours(self, tiny: SRModel, tmp_path: Path, name: str) -> None:
        pixels = np.dstack([disc((0, 0, 0))[..., :3], self.SOFT])
        path, _ = file_to_file(tiny, tmp_path, pixels, name)
        alpha = decoded(path)[..., 3]
        gray = liif_cli.upscale(self.SOFT.astype(np.float32) / 255, scale=3, model=tiny, precision="fp32")
        grid = Grid.whole((48, 64), (144, 192))
        held = ScaledAlpha.over(self.SOFT, grid).part(0, 0, 144, 192, np.asarray(gray))
        assert np.abs(alpha - held * 255).max() <= 0.51
        bicubic = ScaledAlpha.over(self.SOFT, grid).part(0, 0, 144, 192)
        assert np.abs(alpha - bicubic * 255).max() > 2  # it is not the filter's

    def test_constant_areas_stay_exact(self, tiny: SRModel) -> None:
        pixels = np.dstack([np.full((48, 64), 90, np.uint8), self.SOFT])
        alpha = np.asarray(liif_cli.upscale(pixels, scale=3, model=tiny))[..., 1]
        inside = np.hypot(*(np.mgrid[0:144, 0:192] / 3 - np.array([23.5, 30])[:, None, None] + 1 / 3)) < 9
        assert (alpha[inside] == 255).all() and (alpha[:20] == 0).all() and (alpha[:, -40:] == 0).all()

    @pytest.mark.parametrize("self_ensemble", [False, True])
    def test_tiles_leave_no_trace(self, tiny: SRModel, self_ensemble: bool) -> None:
        pixels = np.dstack([disc((9, 9, 9))[..., :3], self.SOFT])
        seen = []
        for tile in (None, 11):
            upscaler = Upscaler(tiny, Options(precision="fp32", tile=tile, self_ensemble=self_ensemble))
            grid = upscaler.options.grid((48, 64), Scale.parse("2.3"))
            seen.append(np.concatenate([rows for _, rows in upscaler.rows(upscaler.renderer(8), pixels, [grid])]))
        assert np.abs(seen[0].astype(int) - seen[1]).max() <= 1

    def test_a_tile_of_constant_alpha_is_not_encoded_for_it(self, tiny: SRModel) -> None:
        pixels = np.dstack([disc((9, 9, 9))[..., :3], np.full((48, 64), 255, np.uint8)])
        pixels[0, 0, 3] = 77  # soft alpha in one corner only
        counts = []
        encode = tiny.encode
        tiny.encode = lambda *a, **k: counts.append(1) or encode(*a, **k)  # type: ignore[method-assign, func-returns-value]
        try:
            renderer = Upscaler(tiny, Options(precision="fp32", tile=16)).renderer(8)
            plan = renderer.plan((48, 64), [Grid.whole((48, 64), (96, 128))], 4, side=16, alpha=True)
            for _ in renderer.pieces(network_input(pixels), [Grid.whole((48, 64), (96, 128))], plan):
                pass
        finally:
            del tiny.encode
        assert plan.count < len(counts) < 2 * plan.count


class TestChannels:
    @pytest.mark.parametrize("channels", [1, 2, 3, 4])
    def test_in_and_out(self, channels: int) -> None:
        pixels = np.random.default_rng(2).integers(1, 256, (6, 7, channels), np.uint8)
        seen = network_input(pixels)
        assert seen.shape == (6, 7, 4 if channels in (2, 4) else 3)  # alpha that varies goes along
        pixels[..., -1] = 255
        assert network_input(pixels).shape == (6, 7, 3)
        rows = np.random.default_rng(3).random((6, 7, 3), np.float32)
        alpha = rows[..., 0] if channels in (2, 4) else None
        out = network_output(rows, alpha, channels)
        assert out.shape == (6, 7, channels)
        if channels < 3:
            np.testing.assert_allclose(out[..., 0], rows @ [0.299, 0.587, 0.114], rtol=1e-6)

    def test_alpha_must_be_there(self) -> None:
        with pytest.raises(ValueError, match="alpha"):
            network_output(np.zeros((2, 2, 3), np.float32), None, 4)


class TestFlattening:
    @pytest.mark.parametrize(("background", "corner"), [((255, 255, 255), 255), ((0, 0, 0), 0), ((10, 200, 30), None)])
    def test_on_a_background_with_a_note(
        self, tiny: SRModel, tmp_path: Path, background: tuple[int, int, int], corner: int | None
    ) -> None:
        path, notes = file_to_file(tiny, tmp_path, disc((9, 9, 9)), "out.jpg", background=background)
        with Image.open(path) as image:
            assert image.mode == "RGB"
            expected = background if corner is None else (corner,) * 3
            assert np.abs(np.array(image.getpixel((1, 1))) - expected).max() <= 3
        assert any("#{:02x}{:02x}{:02x}".format(*background) in note for note in notes)

    def test_opaque_alpha_needs_no_note(self, tmp_path: Path) -> None:
        assert write.write(tmp_path / "a.jpg", np.full((8, 8, 4), 255, np.uint8)) == ()

    def test_half_transparent_is_mixed(self, tmp_path: Path) -> None:
        pixels = np.full((16, 16, 4), (200, 100, 0, 128), np.uint8)
        write.write(tmp_path / "a.jpg", pixels, None, SaveOptions(background=(0, 0, 255)))
        mixed = decoded(tmp_path / "a.jpg")
        assert np.abs(mixed - (100, 50, 127)).max() <= 2

    @pytest.mark.parametrize(
        ("text", "colour"), [("white", (255, 255, 255)), ("#0a141e", (10, 20, 30)), ("#f00", (255, 0, 0))]
    )
    def test_colours_as_users_write_them(self, text: str, colour: tuple[int, int, int]) -> None:
        assert write.parse_colour(text) == colour

    def test_no_colour(self) -> None:
        from liif_cli.errors import UsageError

        with pytest.raises(UsageError, match="bluish"):
            write.parse_colour("bluish")


@pytest.mark.parametrize("scale", ["3.5", "1.5", "2", "0.75", "0.5"])
@pytest.mark.parametrize(("top", "left"), [(0, 0), (2, 4)])
def test_straight_edges_of_on_off_masks_stay_straight_in_a_gif(
    tiny: SRModel, tmp_path: Path, scale: str, top: int, left: int
) -> None:
    """A border of one pixel around an empty inside: it is closed, and every row that crosses it looks alike."""
    picture = np.zeros((20, 26, 4), np.uint8)
    picture[..., :3] = (200, 40, 90)
    picture[top : 20 - top, left : 26 - left, 3] = 255
    picture[top + 1 : 19 - top, left + 1 : 25 - left, 3] = 0
    Image.fromarray(picture).save(tmp_path / "in.png")
    Upscaler(tiny, Options(precision="fp32")).file(tmp_path / "in.png", [(Scale.parse(scale), tmp_path / "out.gif")])
    with Image.open(tmp_path / "out.gif") as image:
        mask = np.asarray(image.convert("RGBA"))[..., 3] > 0
    factor = float(scale)
    rows = mask[math.ceil((top + 3) * factor) : int((17 - top) * factor)]
    columns = mask[:, math.ceil((left + 3) * factor) : int((23 - left) * factor)]
    assert (rows == rows[:1]).all() and (columns == columns[:, :1]).all()
    for line in (rows[0], columns[:, 0]):
        assert np.count_nonzero(np.diff(np.concatenate([[False], line, [False]]).astype(int)) == 1) == 2
        assert abs(line.sum() - 2 * factor) <= 2


def test_alpha_of_exactly_one_half_is_opaque_in_a_gif(tmp_path: Path) -> None:
    rows = np.full((4, 6, 4), 0.5, np.float32)
    rows[..., -1] += np.random.default_rng(0).uniform(-1e-4, 1e-4, (4, 6)).astype(np.float32)
    rows[:, -1, -1] = 0.49
    write.write(tmp_path / "a.gif", rows)
    with Image.open(tmp_path / "a.gif") as image:
        alpha = np.asarray(image.convert("RGBA"))[..., 3]
    assert (alpha[:, :-1] == 255).all() and (alpha[:, -1] == 0).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_binary_mask_shrinks_to_what_it_covers(dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    mask = np.random.default_rng(1).integers(0, 2, (24, 30)).astype(dtype)
    mask *= 1 if dtype == np.float32 else np.iinfo(dtype).max
    shares = mask / mask.max()
    for bands in (256, 2):
        monkeypatch.setattr("liif_cli.rendering.alpha.BAND_ROWS", bands)
        whole = ScaledAlpha.over(mask, Grid.whole((24, 30), (8, 10))).plane
        np.testing.assert_allclose(whole, shares.reshape(8, 3, 10, 3).mean((1, 3)), atol=1e-6)
        one = ScaledAlpha.over(mask, Grid.whole((24, 30), (48, 12))).plane  # 2.5 columns each; rows grow, and stay
        expected = shares.reshape(24, 6, 5) @ np.array([[1, 0], [1, 0], [0.5, 0.5], [0, 1], [0, 1]]) / 2.5
        np.testing.assert_allclose(one, expected.reshape(24, 12), atol=1e-6)
        region = Grid(Axis(24, 5, 0, 5, 2, 10), Axis(30, 4, 0, 4, 6, 8))
        np.testing.assert_allclose(
            ScaledAlpha.over(mask, region).plane, shares[2:12, 6:14].reshape(5, 2, 4, 2).mean((1, 3)), atol=1e-6
        )
