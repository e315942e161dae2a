"""Metadata that measures, shows or points into the original image is corrected, or dropped with a note."""

import contextlib
import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from liif_cli.errors import InputError
from liif_cli.images import read, write
from liif_cli.images.formats import heif
from liif_cli.images.picture import Picture

PIXELS = np.arange(12 * 16 * 3, dtype=np.uint8).reshape(12, 16, 3)


def saved(form: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, form, **options)
    return file.getvalue()


def written(picture: Picture, path: Path) -> tuple[bytes, str]:
    """The file at twice the size, and its notes in one text."""
    twice = picture.pixels.repeat(2, 0).repeat(2, 1)
    metadata, notes = picture.metadata.for_size(twice.shape[1], twice.shape[0])
    notes += write.write(path, twice, metadata)
    return path.read_bytes(), "\n".join((*picture.notes, *notes))


# Thermal cameras


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_thermal_data_of_a_camera_goes_with_a_note(tmp_path: Path, suffix: str) -> None:
    data = saved("JPEG")
    body = b"FLIR\0\1\0\0FFF\0" + b"raw thermal samples" * 9
    data = data[:2] + b"\xff\xe1" + (len(body) + 2).to_bytes(2) + body + data[2:]
    made, notes = written(read.read(data), tmp_path / f"out.{suffix}")
    assert "thermal data (FLIR)" in notes and b"FLIR" not in made and b"thermal samples" not in made


# Regions of faces

REGIONS = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/" dc:format="image/jpeg" tiff:Orientation="6">{}
</rdf:Description></rdf:RDF></x:xmpmeta>"""
MWG = """<mwg-rs:Regions rdf:parseType="Resource"><mwg-rs:AppliedToDimensions stDim:w="16" stDim:h="12" stDim:unit="pixel"/>
<mwg-rs:RegionList><rdf:Bag><rdf:li><rdf:Description mwg-rs:Name="Ada" mwg-rs:Rotation="-1.57"><mwg-rs:Area stArea:x="0.5"
stArea:y="0.25" stArea:w="0.1" stArea:h="0.1" stArea:unit="normalized"/></rdf:Description></rdf:li></rdf:Bag>
</mwg-rs:RegionList></mwg-rs:Regions>"""
MICROSOFT = """<MP:RegionInfo rdf:parseType="Resource"><MPRI:Regions><rdf:Bag><rdf:li MPReg:Rectangle="0.1, 0.2, 0.3, 0.4"
MPReg:PersonDisplayName="Ada"/></rdf:Bag></MPRI:Regions></MP:RegionInfo>"""


@pytest.mark.parametrize("regions", [MWG, MICROSOFT], ids=["MWG", "Microsoft"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_regions_of_faces_go_with_a_note_however_the_image_is_turned(
    tmp_path: Path, regions: str, orientation: int, suffix: str
) -> None:
    """They are in units of the stored pixels; in an upright image of another size they would mark other places."""
    fields = Image.Exif()
    fields[0x0112] = orientation
    packet = REGIONS.format(regions).encode()
    picture = read.read(saved("JPEG", exif=fields.tobytes(), xmp=packet))
    assert picture.pixels.shape[:2] == ((12, 16) if orientation in (1, 3) else (16, 12))
    made, notes = written(picture, tmp_path / f"out.{suffix}")
    assert "regions of faces" in notes
    assert not any(word in made for word in (b"Ada", b"Rotation", b"Rectangle", b"AppliedToDimensions"))
    assert b"image/jpeg" in made and b'tiff:Orientation="6"' not in made


ELEMENTS = {
    "GPano:FullPanoWidthPixels": "panorama",
    "GPano:UsePanoramaViewer": "panorama",
    "hdrgm:Version": "gain map",
    "GCamera:MotionPhoto": "motion photo",
    "apple-fi:AngleInfoRoll": "regions of faces",
    "dcterms:provenance": "C2PA",
}


@pytest.mark.parametrize("name", ELEMENTS)
@pytest.mark.parametrize("form", ["<{0}>4000</{0}>", "<{0}>\n 4000 \n</{0}>", '<rdf:li {0}="4000"/>', "<{0}/>"])
def test_an_element_goes_as_its_attribute_does(tmp_path: Path, name: str, form: str) -> None:
    packet = REGIONS.format(form.format(name)).encode()
    made, notes = written(read.read(saved("JPEG", xmp=packet)), tmp_path / "out.jpg")
    assert ELEMENTS[name] in notes and name.encode() not in made and b"image/jpeg" in made


# Planes of tiles


def planes(deep: bool, order: str, extra: bool) -> tuple[bytes, np.ndarray]:
    """A TIFF of 40 x 24 pixels whose samples lie in planes of tiles of 16 x 16, and its pixels."""
    rng, count = np.random.default_rng(1), 4 if extra else 3
    kind = np.dtype(np.uint16 if deep else np.uint8).newbyteorder(order)
    pixels = rng.integers(0, 65536 if deep else 256, (24, 40, count)).astype(kind)
    padded = np.pad(pixels, ((0, 8), (0, 8), (0, 0)))
    tiles = [padded[y : y + 16, x : x + 16, c] for c in range(count) for y in (0, 16) for x in (0, 16, 32)]
    head = {"<": b"II*\0", ">": b"MM\0*"}[order]
    data, offsets = bytearray(8), []
    for tile in tiles:
        offsets.append(len(data))
        data += np.ascontiguousarray(tile).tobytes()
    size, bits = len(tiles[0].tobytes()), 16 if deep else 8
    facts: dict[int, tuple[int, list[int]]] = {
        256: (4, [40]), 257: (4, [24]), 258: (3, [bits] * count), 259: (3, [1]), 262: (3, [2]), 277: (3, [count]),
        284: (3, [2]), 322: (4, [16]), 323: (4, [16]), 324: (4, offsets), 325: (4, [size] * len(tiles)),
    }  # fmt: skip
    if extra:
        facts[338] = 3, [2]
    at = len(data)
    tail, entries, values = at + 2 + 12 * len(facts) + 4, b"", b""
    for tag, (form, numbers) in sorted(facts.items()):
        packed = struct.pack(f"{order}{len(numbers)}{'H' if form == 3 else 'I'}", *numbers)
        place = packed.ljust(4, b"\0") if len(packed) <= 4 else struct.pack(f"{order}I", tail + len(values))
        values += packed if len(packed) > 4 else b""
        entries += struct.pack(f"{order}HHI", tag, form, len(numbers)) + place
    data[:8] = head + struct.pack(f"{order}I", at)
    return bytes(data) + struct.pack(f"{order}H", len(facts)) + entries + bytes(4) + values, pixels


@pytest.mark.parametrize("deep", [False, True], ids=["8 bits", "16 bits"])
@pytest.mark.parametrize("order", ["<", ">"], ids=["little", "big"])
@pytest.mark.parametrize("extra", [False, True], ids=["RGB", "RGBA"])
def test_samples_in_planes_of_tiles_are_read(deep: bool, order: str, extra: bool) -> None:
    data, pixels = planes(deep, order, extra)
    np.testing.assert_array_equal(read.read(data).pixels, pixels)


@pytest.mark.parametrize("cut", [300, 2000])
def test_planes_that_are_cut_off_are_an_input_error(cut: int) -> None:
    data, _ = planes(False, "<", False)
    with pytest.raises(InputError):
        read.read(data[:8] + data[8 + cut :])


# Alpha of limited range


@pytest.mark.parametrize("bits", [8, 10])
def test_alpha_of_limited_range_is_widened(bits: int) -> None:
    top = 255 if bits == 8 else 65535
    dtype = np.uint8 if bits == 8 else np.uint16
    alpha = np.array([[16, 126, 235, 0]]) * (top // 255)
    pixels = np.dstack([np.full((1, 4, 3), 100), alpha]).astype(dtype)
    wide = heif.straightened(pixels, heif.Facts(alpha_limited=True), 16 if bits > 8 else 8)
    expected = np.clip(np.rint((alpha[0] - top * 16 / 255) * 255 / 219), 0, top)
    np.testing.assert_allclose(wide[0, :, 3], expected, atol=1)
    assert wide[0, 0, 3] == 0 and wide[0, 2, 3] == top and (wide[..., :3] == 100).all()


def test_alpha_that_an_avif_codes_in_limited_range_is_known_by_its_header() -> None:
    """The alpha item's sequence header has one bit for it, set in a file of full range; without it alpha is widened."""
    file = io.BytesIO()
    shown = np.dstack([PIXELS, np.full(PIXELS.shape[:2], 235, np.uint8)])
    Image.fromarray(shown).save(file, "AVIF", quality=100)
    data = bytearray(file.getvalue())
    assert not heif.read(io.BytesIO(bytes(data))).alpha_limited
    assert abs(int(read.read(bytes(data)).pixels[..., 3].mean()) - 235) <= 1
    limited = limited_alpha(bytes(data))
    assert heif.read(io.BytesIO(limited)).alpha_limited
    assert read.read(limited).pixels[..., 3].min() >= 253


def limited_alpha(data: bytes) -> bytes:
    """The AVIF with the bit for full range cleared in the alpha item's sequence header, found by trying each bit: nothing else
    of the file is read in another way."""
    facts, colours = heif.read(io.BytesIO(data)), read.read(data).pixels[..., :3]
    start = data.index(b"mdat") + 4
    for at in range(start, min(start + 400, len(data))):
        for bit in range(8):
            changed = data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]
            if not heif.read(io.BytesIO(changed)).alpha_limited or facts.alpha_limited:
                continue
            with contextlib.suppress(InputError):
                pixels = read.read(changed).pixels
                if pixels.shape[2] == 4 and np.array_equal(pixels[..., :3], colours):
                    return changed
    raise AssertionError("no bit of it")


# Microscopes and maps


def tiff_with(tags: dict[int, object], **options: object) -> bytes:
    fields = ImageFileDirectory_v2()
    for tag, value in tags.items():
        fields[tag] = value
    return saved("TIFF", tiffinfo=fields, **options)


IMAGEJ = "ImageJ=1.54f\nimages=1\nunit=micron\nmin=0.0\nmax=255.0\n"
OME = '<?xml version="1.0"?><OME><Image><Pixels PhysicalSizeX="0.65" PhysicalSizeXUnit="um" SizeX="16"/></Image></OME>'


@pytest.mark.parametrize("description", [IMAGEJ, OME], ids=["ImageJ", "OME"])
@pytest.mark.parametrize("suffix", ["tif", "png", "jpg"])
def test_calibration_of_a_microscope_goes_with_a_note(tmp_path: Path, description: str, suffix: str) -> None:
    """Micrometres per pixel are half as many at twice the size."""
    data = tiff_with(
        {270: description, 305: "a microscope"}, resolution_unit=3, x_resolution=15_384.6, y_resolution=15_384.6
    )
    made, notes = written(read.read(data), tmp_path / f"out.{suffix}")
    assert "microscope's calibration" in notes
    assert not any(word in made for word in (b"micron", b"PhysicalSize", b"ImageJ"))
    dpi = read.read(tmp_path / f"out.{suffix}").metadata.dpi
    assert dpi is None or dpi[0] < 1000


def test_a_description_of_another_kind_and_dots_per_inch_stay(tmp_path: Path) -> None:
    data = tiff_with({270: "a cat on ImageJ Street"}, dpi=(300, 300))
    made, notes = written(read.read(data), tmp_path / "out.tif")
    assert "microscope" not in notes and b"a cat on ImageJ" in made
    assert read.read(tmp_path / "out.tif").metadata.dpi == (300, 300)


@pytest.mark.parametrize(
    "tags", [{33550: (0.5, 0.5, 0.0)}, {33922: (0.0,) * 6}, {42112: "<GDALMetadata/>"}, {42113: "-9999"}]
)
def test_georeferencing_goes_with_a_note(tmp_path: Path, tags: dict[int, object]) -> None:
    made, notes = written(read.read(tiff_with(tags)), tmp_path / "out.tif")
    assert "georeferencing" in notes
    with Image.open(io.BytesIO(made)) as image:
        assert not set(tags) & set(image.tag_v2)
