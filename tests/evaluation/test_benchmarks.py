"""The sets: layouts, the Hub (the real client, a local server), faces, and errors if a set is missing."""

import io
import tarfile
import zipfile

import numpy as np
import pytest
from hub_server import HubServer
from PIL import Image

from liif_cli.errors import CheckpointError, InputError, ModelNotFound, UsageError
from liif_cli.evaluation import benchmarks
from liif_cli.evaluation.benchmark_files import SOURCES, pixel_digest, read_rgb
from liif_cli.evaluation.benchmarks import find


def sample(height=24, width=20, seed=0, mode="RGB"):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels).convert(mode)


def png(image):
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def write(path, image=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    (image or sample()).save(path)
    return path


def tar(files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as bundle:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            bundle.addfile(info, io.BytesIO(data))
    return out.getvalue()


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with HubServer() as server:
        high = {f"Set5_HR/{name}.png": png(sample(seed=seed)) for seed, name in enumerate("badce")}
        low = {f"Set5_LR_x2/{name}.png": png(sample(12, 10, seed)) for seed, name in enumerate("badce")}
        files = {"data/Set5_HR.tar.gz": tar(high), "data/Set5_LR_x2.tar.gz": tar(low), "README.md": b"# Set5\n"}
        server.add("dataset", "eugenesiow/Set5", files)
        server.use(monkeypatch, tmp_path / "cache")
        yield server


class TestFolders:
    def test_the_usual_layout(self, tmp_path):
        for name in ("b.png", "a.png"):
            write(tmp_path / "Set14" / "HR" / name)
        write(tmp_path / "Set14" / "LR_bicubic" / "X2" / "ax2.png", sample(12, 10))
        (tmp_path / "Set14" / "HR" / "notes.txt").write_text("not an image")
        (dataset,) = find("set14", tmp_path)
        assert [image.name for image in dataset.images] == ["a.png", "b.png"]
        assert dataset.protocol == "benchmark" and dataset.low_scales() == (2.0,)
        assert dataset.low_image(dataset.images[0], 2.0).shape == (12, 10, 3)
        with pytest.raises(InputError, match=r"no x2 file for b.png"):
            dataset.low_image(dataset.images[1], 2.0)

    @pytest.mark.parametrize("home", ["Set14", "benchmark/Set14"])
    def test_homes(self, tmp_path, home):
        write(tmp_path / home / "HR" / "a.png")
        assert len(find("Set14", tmp_path)[0].images) == 1
        assert len(find("set14", tmp_path / home)[0].images) == 1  # the set's folder itself

    def test_b100_by_its_other_names(self, tmp_path):
        write(tmp_path / "BSDS100" / "HR" / "a.png")
        assert find("b100", tmp_path)[0].name == "b100"

    def test_div2k_layout_and_protocol(self, tmp_path):
        write(tmp_path / "DIV2K" / "DIV2K_valid_HR" / "0801.png")
        write(tmp_path / "DIV2K" / "DIV2K_valid_LR_bicubic" / "X4" / "0801x4.png", sample(6, 5))
        (dataset,) = find("div2k", tmp_path)
        assert dataset.protocol == "div2k"
        assert dataset.low_image(dataset.images[0], 4.0).shape == (6, 5, 3)

    def test_any_folder_and_a_single_image(self, tmp_path):
        file = write(tmp_path / "mine" / "a.png")
        write(tmp_path / "mine" / ".hidden.png")
        (dataset,) = find(str(tmp_path / "mine"))
        assert (dataset.name, dataset.images, dataset.protocol) == ("mine", (file,), "benchmark")
        assert find(str(file))[0].images == (file,)

    def test_absent_sets(self, tmp_path):
        with pytest.raises(ModelNotFound, match="cannot find the set set5 in") as caught:
            find("set5", tmp_path)
        assert caught.value.hint == "put them there, or download the set" and caught.value.remedy == "data_dir"
        with pytest.raises(UsageError, match="'set6' is not a set, folder or file"):
            find("set6")
        (tmp_path / "empty").mkdir()
        with pytest.raises(InputError, match="contains no images"):
            find(str(tmp_path / "empty"))

    def test_other_images_than_the_published_ones_are_noted(self, tmp_path, monkeypatch):
        for seed in range(5):
            write(tmp_path / "Set5" / "HR" / f"{seed}.png", sample(seed=seed))
        (dataset,) = find("set5", tmp_path)
        assert dataset.notes == ("these images differ from those that published scores for set5 were measured on",)
        (tmp_path / "Set5" / "HR" / "0.png").unlink()
        assert find("set5", tmp_path)[0].notes == ("set5 should have 5 images; found 4",)

    def test_the_digest_is_of_pixels(self, tmp_path):
        first = [write(tmp_path / f"{seed}.png", sample(seed=seed)) for seed in range(3)]
        second = [write(tmp_path / f"{9 - seed}.bmp", sample(seed=seed)) for seed in range(3)]
        assert pixel_digest(first) == pixel_digest(second) != pixel_digest(first[:2])


class TestImages:
    @pytest.mark.parametrize("mode", ["L", "P", "RGBA", "1"])
    def test_every_8_bit_kind_becomes_rgb(self, tmp_path, mode):
        file = write(tmp_path / "a.png", sample(mode=mode))
        expected = np.asarray(sample(mode=mode).convert("RGB"))
        np.testing.assert_array_equal(read_rgb(file), expected)

    def test_photos_are_upright(self, tmp_path):
        exif = Image.Exif()
        exif[0x0112] = 6  # turned by a quarter
        sample().save(tmp_path / "a.png", exif=exif)
        np.testing.assert_array_equal(read_rgb(tmp_path / "a.png"), np.rot90(np.asarray(sample()), -1))

    def test_what_cannot_be_read(self, tmp_path):
        deep = write(tmp_path / "deep.png", Image.fromarray(np.zeros((4, 4), np.uint16)))
        with pytest.raises(InputError, match="more than 8 bits"):
            read_rgb(deep)
        (tmp_path / "broken.png").write_bytes(png(sample())[:60])
        with pytest.raises(InputError, match="cannot read"):
            read_rgb(tmp_path / "broken.png")


class TestHub:
    def test_a_set_is_fetched_once(self, hub, monkeypatch):
        (dataset,) = find("set5")
        assert [image.name for image in dataset.images] == ["a.png", "b.png", "c.png", "d.png", "e.png"]
        np.testing.assert_array_equal(dataset.high_image(dataset.images[1]), np.asarray(sample(seed=0)))
        assert "eugenesiow/Set5" in dataset.origin and dataset.low is None and dataset.notes
        asked = len(hub.requests)
        assert any("Set5_HR.tar.gz" in line for line in hub.requests)
        assert not any("LR" in line for line in hub.requests)  # of unproven origin: not touched unless asked for
        from huggingface_hub import constants

        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        assert find("set5")[0].images == dataset.images
        assert len(hub.requests) == asked

    def test_low_resolution_files_come_when_asked_for(self, hub):
        (dataset,) = find("set5", low_scales=(2.0,))
        assert dataset.low_scales() == (2.0,)
        np.testing.assert_array_equal(dataset.low_image(dataset.images[1], 2.0), np.asarray(sample(12, 10, 0)))

    def test_offline_and_absent(self, hub, monkeypatch):
        from huggingface_hub import constants

        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        with pytest.raises(ModelNotFound, match="cannot find the set set5 on this machine") as caught:
            find("set5")
        assert caught.value.exit_code == 5
        assert caught.value.hint == "expected: DIR/Set5/HR/*.png"
        assert caught.value.remedy == "network or folder of the set"

    def test_a_corrupt_archive_is_refused_and_nothing_unpacked(self, hub, tmp_path):
        hub.corrupt("dataset", "eugenesiow/Set5", "data/Set5_HR.tar.gz")
        with pytest.raises(CheckpointError, match="checksum mismatch"):
            find("set5")
        assert not list((tmp_path / "cache" / "assets").rglob("*.png"))

    def test_an_archive_that_leads_outside_is_refused(self, hub, tmp_path):
        bad = tar({"Set14_HR/../../../../../evil.png": png(sample())})
        hub.add("dataset", "eugenesiow/Set14", {"data/Set14_HR.tar.gz": bad})
        with pytest.raises(CheckpointError, match="a path outside"):
            find("set14")
        assert not list(tmp_path.rglob("evil.png"))

    @pytest.mark.parametrize(
        "names",
        [
            ("data/DIV2K_train_HR.zip", "data/DIV2K_valid_HR.zip", "data/DIV2K_valid_LR_bicubic_X2.zip"),
            ("data/Div2k_LR_x2.zip", "data/Div2k_HR.zip"),
        ],
    )
    def test_div2k_is_found_among_the_files(self, hub, names):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as bundle:
            bundle.writestr("DIV2K_valid_HR/0801.png", png(sample()))
        wanted = next(name for name in names if name.endswith(("valid_HR.zip", "Div2k_HR.zip")))
        hub.add("dataset", "eugenesiow/Div2k", dict.fromkeys(names, b"not it") | {wanted: out.getvalue()})
        (dataset,) = find("div2k")
        assert [image.name for image in dataset.images] == ["0801.png"]

    def test_every_named_set_has_a_place_on_the_hub(self):
        assert {source.repo for source in SOURCES.values()} == {
            f"eugenesiow/{name}" for name in ("Set5", "Set14", "BSD100", "Urban100", "Div2k")
        }


class TestFaces:
    def test_pairs_from_folders(self, tmp_path):
        for side in (32, 64, 128, 256):
            write(tmp_path / "celebAHQ" / str(side) / "1.png", sample(side, side, side))
        small, large = find("celebahq", tmp_path)
        assert (small.name, small.scales, large.name, large.scales) == (
            "celebahq-64-128",
            (2.0,),
            "celebahq-32-256",
            (8.0,),
        )
        assert small.protocol == "celebahq" and small.low_scales() == (2.0,)
        np.testing.assert_array_equal(small.high_image(small.images[0]), np.asarray(sample(128, 128, 128)))
        np.testing.assert_array_equal(large.low_image(large.images[0], 8.0), np.asarray(sample(32, 32, 32)))

    def test_pairs_from_larger_faces(self, tmp_path):
        write(tmp_path / "1.png", sample(300, 300))
        small, _ = find("celebahq", tmp_path)
        by_pillow = sample(300, 300).resize((64, 64), Image.Resampling.BICUBIC)
        np.testing.assert_array_equal(small.low_image(small.images[0], 2.0), np.asarray(by_pillow))
        assert small.high_image(small.images[0]).shape == (128, 128, 3)

    def test_refusals(self, tmp_path):
        with pytest.raises(ModelNotFound, match="cannot download the set celebahq"):
            find("celebahq")
        with pytest.raises(ModelNotFound, match="does not exist"):
            find("celebahq", tmp_path / "nowhere")
        with pytest.raises(InputError, match="contains no faces"):
            find("celebahq", tmp_path)
        write(tmp_path / "wide.png", sample(200, 300))
        with pytest.raises(InputError, match="square of at least 128 pixels"):
            find("celebahq", tmp_path)[0].high_image(tmp_path / "wide.png")


def test_the_default_scales_are_those_of_the_tables():
    assert benchmarks.SCALES == (2, 3, 4, 6, 8, 12, 18, 24, 30)
