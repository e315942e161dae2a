"""Training data: which images, which pairs, in which order; and that a pair is what the paper says it is."""

import numpy as np
import pytest
import torch
from PIL import Image

from liif_cli.errors import InputError
from liif_cli.training import sources
from liif_cli.training.pairs import Pairs, batches, crop, detail, most_detailed, numbers_of, turn
from liif_cli.training.sources import ImageFolders, find_images, read_image


@pytest.fixture
def folder(tmp_path):
    """Seven usable images in two folders, of several formats, and some that are not."""
    rng = np.random.default_rng(0)
    (tmp_path / "a" / "deep").mkdir(parents=True)
    (tmp_path / "b").mkdir()
    for number, suffix in enumerate(("png", "jpg", "webp", "tif", "bmp", "ppm", "gif")):
        pixels = rng.integers(0, 256, (80 + number, 90, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / ("a/deep" if number % 2 else "b") / f"{number}.{suffix}")
    Image.new("RGB", (200, 79)).save(tmp_path / "a" / "small.png")
    (tmp_path / "a" / "broken.png").write_bytes((tmp_path / "b" / "0.png").read_bytes()[:40])
    (tmp_path / "a" / "words.txt").write_text("no image")
    return tmp_path


def make(folder, **changes):
    options = {"patch": 20, "scale": (1.0, 4.0), "queries": 50, "seed": 1} | changes
    return Pairs(ImageFolders([folder], 80), **options)


def test_folders_are_searched_recursively_and_once(folder):
    found = find_images([folder, folder / "a"])
    assert len(found) == 9 and found == sorted(set(found))
    assert not any(path.suffix == ".txt" for path in found)
    with pytest.raises(InputError, match="does not exist"):
        find_images([folder / "nowhere"])


@pytest.mark.parametrize("budget", [float("inf"), 0])
def test_unusable_images_are_named_and_skipped(folder, budget):
    images = ImageFolders([folder / "a", folder / "b"], 80, budget)
    assert len(images) == 7 and images.in_memory == (budget > 0)
    assert any("small.png is 200x79, under 80 pixels" in reason for reason in images.skipped)
    assert any("broken.png" in reason for reason in images.skipped)
    assert len(images.skipped) == 2


def test_an_image_that_breaks_while_training_gives_way_to_the_next(folder):
    images = ImageFolders([folder / "b"], 80, budget=0)
    images.paths[1].write_bytes(b"gone")
    assert np.array_equal(images[1], read_image(images.paths[2]))
    assert np.array_equal(images[1], images[2])
    assert sum(str(images.paths[1]) in reason for reason in images.skipped) == 1


def test_no_usable_image_is_an_error(folder):
    with pytest.raises(InputError, match="no usable image") as caught:
        ImageFolders([folder], 500)
    assert "under 500 pixels" in str(caught.value.hint)
    with pytest.raises(InputError, match="no usable image"):
        ImageFolders([], 1)


def test_images_come_as_upright_rgb_bytes(tmp_path):
    rng = np.random.default_rng(2)
    deep = rng.integers(0, 65536, (30, 40), dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path / "gray16.png")
    expected = np.rint(deep / 257).astype(np.uint8)
    assert np.array_equal(read_image(tmp_path / "gray16.png"), np.stack([expected] * 3, -1))

    rgba = rng.integers(0, 256, (30, 40, 4), dtype=np.uint8)
    rgba[:, :20, 3] = 0
    Image.fromarray(rgba).save(tmp_path / "alpha.png")
    assert (read_image(tmp_path / "alpha.png")[:, :20] == 255).all()

    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    Image.fromarray(rgba[..., :3]).save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "turned.png"), np.rot90(rgba[..., :3], -1))


def test_a_pair_is_the_papers(folder):
    pairs = make(folder)
    for number in range(40):
        lr, rgb, index, side = pairs.pair(number)
        draw, _ = pairs.draw(number)
        assert lr.shape == (20, 20, 3) and rgb.shape == (50, 3) and 20 <= side <= 80
        image = pairs.images[draw.image]
        top, left = (int(c * (n - side + 1)) for c, n in zip(draw.corners[0], image.shape[:2], strict=True))
        hr = image[top : top + side, left : left + side]
        assert hr.shape == (side, side, 3)
        reduced = np.asarray(Image.fromarray(hr).resize((20, 20), Image.Resampling.BICUBIC)) if side > 20 else hr
        assert np.array_equal(lr, turn(reduced, draw.flips))
        assert len(set(index.tolist())) == 50
        assert np.array_equal(turn(hr, draw.flips)[index // side, index % side], rgb)


def test_chance_is_as_the_paper_has_it(folder):
    pairs = make(folder)
    draws = [pairs.draw(number)[0] for number in range(700)]
    sides = np.array([draw.side for draw in draws])
    assert sides.min() <= 21 and sides.max() >= 79 and abs(sides.mean() - 50) < 2.5  # uniform in [1, 4]
    assert {draw.flips for draw in draws} == {
        (a, b, c) for a in (False, True) for b in (False, True) for c in (False, True)
    }
    for epoch in range(100):  # every image once an epoch, in an order of its own
        assert sorted(draw.image for draw in draws[7 * epoch : 7 * epoch + 7]) == list(range(7))
    assert len({tuple(draw.image for draw in draws[7 * epoch : 7 * epoch + 7]) for epoch in range(20)}) > 15
    fixed = make(folder, scale=(3.0, 3.0), augment=False)
    assert {fixed.draw(n)[0].side for n in range(20)} == {60}
    assert {fixed.draw(n)[0].flips for n in range(20)} == {(False, False, False)}


def test_a_share_of_the_pairs_is_at_x1_and_the_others_stay_as_they_are(folder):
    plain, some = make(folder), make(folder, identity=0.25)
    draws = [(plain.draw(n)[0], some.draw(n)[0]) for n in range(400)]
    changed = [b for a, b in draws if a != b]
    assert all(b.side == 20 for b in changed) and 70 < len(changed) < 130
    lr, rgb, index, side = next(some.pair(n) for n, (a, b) in enumerate(draws) if a != b)
    assert side == 20 and np.array_equal(lr.reshape(-1, 3)[index], rgb)  # what goes in is what is wanted
    everything = make(folder, identity=1.0, scale=(2.0, 4.0))
    assert {everything.draw(n)[0].side for n in range(20)} == {20}


def test_of_several_candidates_the_crop_with_the_most_detail_is_taken(tmp_path):
    rng = np.random.default_rng(3)
    pixels = np.full((200, 200, 3), 90, np.uint8)
    pixels[:, 150:] = rng.integers(0, 256, (200, 50, 3))  # all there is to see is on the right
    Image.fromarray(pixels).save(tmp_path / "half.png")
    pairs = {n: Pairs(ImageFolders([tmp_path], 80), 20, (1.0, 2.0), 50, seed=1, candidates=n) for n in (1, 4)}
    seen = {n: np.mean([(p.pair(i)[0] != 90).any() for i in range(200)]) for n, p in pairs.items()}
    assert 0.2 < seen[1] < 0.4 and seen[4] > 0.7
    draws = [pairs[4].draw(n)[0] for n in range(200)]
    assert all(len(set(draw.corners)) == 4 for draw in draws) and pairs[4].draw(7)[0] == draws[7]
    assert [pairs[1].draw(n)[0].corners[0] for n in range(200)] == [draw.corners[0] for draw in draws]
    for draw in draws[:50]:
        details = [detail(crop(pixels, draw.side, corner)) for corner in draw.corners]
        assert detail(most_detailed(pixels, draw)) == max(details)
    assert [pairs[n].draw(5)[0].side for n in (1, 4)] == [pairs[1].draw(5)[0].side] * 2


def test_an_image_is_decoded_once_a_pair(folder, monkeypatch):
    reads = []
    read = sources.read_image
    monkeypatch.setattr(sources, "read_image", lambda path: reads.append(path) or read(path))
    Pairs(ImageFolders([folder], 80, 0), 20, (1.0, 4.0), 50, seed=1, candidates=4).pair(0)
    assert len(reads) == 1


def test_positions_and_cells_are_those_of_the_pixel_centres(folder):
    batch = make(folder).batch(range(6))
    for i in range(6):
        _, rgb, index, side = make(folder).pair(i)
        coord = -1 + (2 * np.stack([index // side, index % side], -1) + 1) / side  # the paper's
        assert np.allclose((batch.position[i].numpy() + 0.5) * 2 / 20 - 1, coord, atol=1e-15)
        assert np.allclose(batch.cell[i].numpy() * 2 / 20, 2 / side)
        assert np.array_equal(batch.rgb[i].numpy(), rgb)
    assert batch.position.dtype == batch.cell.dtype == torch.float64


def test_processes_share_the_steps_of_one(folder):
    pairs = make(folder)
    for step in range(3):
        whole = pairs.batch(numbers_of(step, 8))
        parts = [pairs.batch(numbers_of(step, 8, rank, 4)) for rank in range(4)]
        for name in ("lr", "rgb", "position", "cell"):
            assert torch.equal(getattr(whole, name), torch.cat([getattr(part, name) for part in parts]))


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_batches_come_in_order_whatever_the_workers(folder, workers):
    pairs = make(folder)
    made = list(batches(lambda step: pairs.batch(numbers_of(step, 4)), 5, 17, workers))
    assert len(made) == 12
    for step, batch in zip(range(5, 17), made, strict=True):
        assert torch.equal(batch.rgb, pairs.batch(numbers_of(step, 4)).rgb)


def test_an_error_in_a_worker_reaches_the_trainer():
    def fail(step):
        if step == 3:
            raise InputError("no more")
        return step

    seen = []
    with pytest.raises(InputError, match="no more"):
        seen.extend(batches(fail, 0, 10, 2))
    assert seen == [0, 1, 2]
