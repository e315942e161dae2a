"""Metadata that is preserved (orientation, EXIF, XMP, IPTC, DPI, text), and metadata that must be dropped.

Files are made by Pillow or by hand; what we write is read by Pillow and by libvips (our own parsers read only inputs).
"""

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvips
from PIL import ExifTags, Image, ImageOps, IptcImagePlugin, PngImagePlugin

from liif_cli.images import read, write
from liif_cli.images.formats import jpeg
from liif_cli.images.metadata import exif, ifd, xmp
from liif_cli.images.metadata.ifd import Reader
from liif_cli.images.metadata.photoshop import from_iptc
from liif_cli.images.picture import Metadata
from liif_cli.images.write import SaveOptions
from liif_cli.models.model import SRModel
from liif_cli.rendering.sizes import Scale
from liif_cli.upscaling.options import Options
from liif_cli.upscaling.upscaler import Upscaler

Y, X = np.mgrid[0:24, 0:36]
RGB = np.stack([X * 7, Y * 10, (X + Y) * 4], axis=2).astype(np.uint8)
IPTC = b"\x1c\x02\x78\0\x07Caption\x1c\x02\x19\0\x03key"
PACKET = (
    b'<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
    b'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
    b'xmlns:tiff="http://ns.adobe.com/tiff/1.0/" xmlns:exif="http://ns.adobe.com/exif/1.0/" '
    b'xmlns:dc="http://purl.org/dc/elements/1.1/" tiff:Orientation="6" exif:PixelXDimension="36" dc:source="me">'
    b"<exif:PixelYDimension>24</exif:PixelYDimension></rdf:Description></rdf:RDF></x:xmpmeta>"
)
MARK = b"Exif\0\0"
FORMATS = ["png", "jpg", "webp", "tif", "avif"]


def an_exif(orientation: int = 1, order: str = "MM") -> bytes:
    """EXIF with camera, lens, dimensions, a place, a maker note and a thumbnail, in either byte order."""
    fields = Image.Exif()
    fields.endian = "<" if order == "II" else ">"
    fields[0x0112], fields[0x010F], fields[0x013B] = orientation, "Maker", "Zoë".encode().decode("latin-1")
    inner = fields.get_ifd(ExifTags.IFD.Exif)
    inner[0xA002], inner[0xA003], inner[0xA434], inner[0x927C] = 36, 24, "50mm", b"maker note bytes"
    inner[0x9214] = (10, 10, 5)
    place = fields.get_ifd(ExifTags.IFD.GPSInfo)
    place[1], place[2] = "N", (48.0, 30.0, 0.5)
    return exif.bare(fields.tobytes())


def with_thumbnail(blob: bytes, thumbnail: bytes) -> bytes:
    """The blob with an IFD1 that holds a JPEG thumbnail, as cameras write it."""
    order = "<" if blob[:2] == b"II" else ">"
    first = struct.unpack_from(order + "I", blob, 4)[0]
    pointer = first + 2 + 12 * struct.unpack_from(order + "H", blob, first)[0]
    at = len(blob)
    entries = [(0x0103, 3, 1, 6), (0x0201, 4, 1, at + 2 + 36 + 4), (0x0202, 4, 1, len(thumbnail))]
    table = struct.pack(order + "H", 3)
    for tag, kind, count, value in entries:
        held = struct.pack(order + "HH", value, 0) if kind == 3 else struct.pack(order + "I", value)
        table += struct.pack(order + "HHI", tag, kind, count) + held
    data = bytearray(blob + table + bytes(4) + thumbnail)
    struct.pack_into(order + "I", data, pointer, at)
    return bytes(data)


def saved(form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(RGB).save(file, form, **options)
    return file.getvalue()


def upscaled(tiny: SRModel, folder: Path, data: bytes, name: str, **options: Any) -> tuple[Path, tuple[str, ...]]:
    """The file `name` with `data` upscaled ×2 by the whole tool, and the notes."""
    (folder / "input").write_bytes(data)
    upscaler = Upscaler(tiny, Options(precision="fp32", save=SaveOptions(**options)))
    [result] = upscaler.file(folder / "input", [(Scale.parse("2"), folder / name)])
    return folder / name, result.notes


class TestOrientation:
    @pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_exif_all_eight(self, orientation: int, form: str) -> None:
        lossless = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}}.get(form, {})
        fields = Image.Exif()
        fields[0x0112] = orientation
        data = saved(form, exif=fields, **lossless)
        expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
        picture, header = read.read(data), read.probe(data)
        assert picture.pixels.shape == expected.shape == (header.height, header.width, 3)
        assert np.abs(picture.pixels.astype(int) - expected).max() <= (2 if form == "JPEG" else 0)

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_xmp_all_eight_where_exif_is_silent(self, orientation: int) -> None:
        packet = PACKET.replace(b'Orientation="6"', b'Orientation="%d"' % orientation)
        text = PngImagePlugin.PngInfo()
        text.add_itxt("XML:com.adobe.xmp", packet.decode())
        fields = Image.Exif()
        fields[0x0112] = orientation
        expected = ImageOps.exif_transpose(Image.open(io.BytesIO(saved("PNG", exif=fields))))
        np.testing.assert_array_equal(read.read(saved("PNG", pnginfo=text)).pixels, np.asarray(expected))

    def test_exif_takes_precedence_over_xmp(self) -> None:
        fields = Image.Exif()
        fields[0x0112] = 3
        picture = read.read(saved("JPEG", exif=fields, xmp=PACKET, quality=100, subsampling=0))
        assert picture.pixels.shape == (24, 36, 3)

    @pytest.mark.parametrize("name", FORMATS)
    def test_it_is_applied_once_and_reset(self, tiny: SRModel, tmp_path: Path, name: str) -> None:
        path, _ = upscaled(tiny, tmp_path, saved("JPEG", exif=MARK + an_exif(6), xmp=PACKET), f"out.{name}")
        with Image.open(path) as image:
            assert image.size == (48, 72)
            assert image.getexif().get(0x0112, 1) == 1
        seen = pyvips.Image.new_from_file(str(path)).autorot()
        assert (seen.width, seen.height) == (48, 72)
        assert read.read(path).pixels.shape[:2] == (72, 48)


class TestEXIF:
    @pytest.mark.parametrize("order", ["II", "MM"])
    @pytest.mark.parametrize("name", FORMATS)
    def test_it_stays_with_new_dimensions(self, tiny: SRModel, tmp_path: Path, name: str, order: str) -> None:
        path, notes = upscaled(tiny, tmp_path, saved("JPEG", exif=MARK + an_exif(8, order)), f"out.{name}")
        with Image.open(path) as image:
            fields = image.getexif()
            inner, place = fields.get_ifd(ExifTags.IFD.Exif), fields.get_ifd(ExifTags.IFD.GPSInfo)
        assert fields[0x010F] == "Maker"
        assert (inner[0xA002], inner[0xA003], inner[0xA434]) == (48, 72, "50mm")
        assert inner[0x927C] == b"maker note bytes"
        assert place[1] == "N" and [float(v) for v in place[2]] == [48.0, 30.0, 0.5]
        assert 0x9214 not in inner  # SubjectArea counted in old pixels
        assert not notes

    @pytest.mark.parametrize("name", ["png", "jpg", "webp"])
    def test_every_other_byte_is_where_it_was(self, tmp_path: Path, name: str) -> None:
        blob = an_exif()
        write.write(tmp_path / f"out.{name}", RGB, Metadata(exif=blob))
        with Image.open(tmp_path / f"out.{name}") as image:
            written = exif.bare(image.info["exif"])
        expected, _ = exif.updated(blob, 36, 24)
        assert written == expected
        assert expected is not None and len(expected) == len(blob)

    @pytest.mark.parametrize("order", ["II", "MM"])
    @pytest.mark.parametrize("name", FORMATS)
    def test_a_thumbnail_goes_with_a_note(self, tiny: SRModel, tmp_path: Path, name: str, order: str) -> None:
        thumbnail = saved("JPEG")
        blob = with_thumbnail(an_exif(order=order), thumbnail)
        data = saved("JPEG", exif=MARK + blob)
        assert pyvips.Image.jpegload_buffer(data).get_typeof("jpeg-thumbnail-data")  # libvips sees it in the input
        path, notes = upscaled(tiny, tmp_path, data, f"out.{name}")
        assert any("thumbnail" in note for note in notes)
        assert thumbnail[:200] not in path.read_bytes()
        assert not pyvips.Image.new_from_file(str(path)).get_typeof("jpeg-thumbnail-data")
        with Image.open(path) as image:
            assert image.getexif().get_ifd(ExifTags.IFD.Exif)[0xA434] == "50mm"

    @pytest.mark.parametrize("blob", [b"", b"II*\0", b"MM\0*\0\0\0\x08\0\x09", b"garbage" * 9])
    def test_broken_exif_is_dropped_and_the_image_read(self, blob: bytes) -> None:
        picture = read.read(saved("PNG"))
        metadata, notes = Metadata(exif=blob).for_size(9, 9)
        assert metadata.orientation == 1 and picture.metadata.orientation == 1
        assert metadata.exif is None and any("broken" in note for note in notes)

    def test_more_than_a_segment_holds(self, tmp_path: Path) -> None:
        fields = Image.Exif()
        fields[0x010E] = "x" * 70_000
        metadata = Metadata(exif=exif.bare(fields.tobytes()))
        assert any("64 kB" in note for note in write.write(tmp_path / "a.jpg", RGB, metadata))
        assert not write.write(tmp_path / "a.png", RGB, metadata)
        with Image.open(tmp_path / "a.png") as image:
            assert image.getexif()[0x010E] == "x" * 70_000


class TestXMP:
    @pytest.mark.parametrize("name", FORMATS)
    def test_it_stays_with_new_dimensions(self, tiny: SRModel, tmp_path: Path, name: str) -> None:
        path, _ = upscaled(tiny, tmp_path, saved("WEBP", xmp=PACKET, lossless=True), f"out.{name}")
        packet = bytes(pyvips.Image.new_from_file(str(path)).get("xmp-data"))
        assert b'dc:source="me"' in packet and b'tiff:Orientation="1"' in packet
        assert b'exif:PixelXDimension="48"' in packet and b"<exif:PixelYDimension>72<" in packet

    def test_thumbnails_and_gain_maps_go(self) -> None:
        packet = PACKET.replace(
            b"</rdf:Description>",
            b"<xmp:Thumbnails><rdf:Alt><rdf:li>AAAA</rdf:li></rdf:Alt></xmp:Thumbnails>"
            b"<Container:Directory><rdf:Seq/></Container:Directory></rdf:Description>",
        ).replace(b'dc:source="me"', b'dc:source="me" hdrgm:Version="1.0"')
        left, gone = xmp.updated(packet, 5, 6)
        assert gone == (xmp.GAIN_MAP,)
        assert b"Thumbnails" not in left and b"Container:Directory" not in left and b"hdrgm" not in left
        assert b'dc:source="me"' in left and xmp.has_gain_map(packet)


def test_an_ultra_hdr_gain_map_goes_with_a_note(tiny: SRModel, tmp_path: Path) -> None:
    base = saved("JPEG", xmp=PACKET.replace(b'dc:source="me"', b'hdrgm:Version="1.0"'))
    multi = jpeg._segment(jpeg.APP2, b"MPF\0MM\0*\0\0\0\x08\0\0\0\0\0\0")
    data = base[:2] + multi + base[2:] + saved("JPEG")
    path, notes = upscaled(tiny, tmp_path, data, "out.jpg")
    assert any("gain map" in note for note in notes)
    written = path.read_bytes()
    assert b"hdrgm" not in written and b"MPF\0" not in written and written.count(b"\xff\xd8\xff") == 1


@pytest.mark.parametrize("name", ["jpg", "tif", "png"])
def test_iptc_stays(tiny: SRModel, tmp_path: Path, name: str) -> None:
    segment = jpeg._segment(jpeg.APP13, jpeg.PHOTOSHOP + from_iptc(IPTC))
    base = saved("JPEG")
    path, notes = upscaled(tiny, tmp_path, base[:2] + segment + base[2:], f"out.{name}")
    assert not notes
    if name == "png":  # ImageMagick's convention, which neither Pillow nor libvips takes for IPTC
        with Image.open(path) as image:
            lines = image.info["Raw profile type iptc"].split("\n")
        assert (lines[1], bytes.fromhex("".join(lines[3:]))) == ("iptc", from_iptc(IPTC))
        return
    with Image.open(path) as image:
        records = IptcImagePlugin.getiptcinfo(image)
    assert records == {(2, 120): b"Caption", (2, 25): b"key"}


@pytest.mark.parametrize("name", ["webp", "avif"])
def test_iptc_that_is_dropped_is_named(tmp_path: Path, name: str) -> None:
    notes = write.write(tmp_path / f"out.{name}", RGB, Metadata(photoshop=from_iptc(IPTC)))
    assert any("IPTC" in note for note in notes)


@pytest.mark.parametrize("source", ["PNG", "JPEG", "TIFF", "BMP"])
@pytest.mark.parametrize("name", ["png", "jpg", "tif"])
def test_dots_per_inch_stay(tiny: SRModel, tmp_path: Path, source: str, name: str) -> None:
    path, _ = upscaled(tiny, tmp_path, saved(source, dpi=(300, 200)), f"out.{name}")
    with Image.open(path) as image:
        assert [float(v) for v in image.info["dpi"]] == pytest.approx([300, 200], abs=0.1)


@pytest.mark.parametrize("name", ["webp", "avif"])
def test_dots_per_inch_stay_in_exif_if_the_format_has_no_other_place(tiny: SRModel, tmp_path: Path, name: str) -> None:
    path, _ = upscaled(tiny, tmp_path, saved("PNG", dpi=(300, 200)), f"out.{name}")
    with Image.open(path) as image:
        fields = image.getexif()
    assert (float(fields[0x011A]), float(fields[0x011B])) == pytest.approx((300, 200), abs=0.1) and fields[0x0128] == 2
    back, _ = upscaled(tiny, tmp_path, path.read_bytes(), "back.png")
    with Image.open(back) as image:
        assert image.info["dpi"] == pytest.approx((300, 200), abs=0.1)


def test_no_dots_per_inch_are_invented(tmp_path: Path) -> None:
    for name in ("png", "jpg", "tif"):
        write.write(tmp_path / f"out.{name}", RGB)
        with Image.open(tmp_path / f"out.{name}") as image:
            assert "dpi" not in image.info or image.info["dpi"] == (1, 1)
            assert image.info.get("jfif_unit", 0) == 0


def test_text_chunks_stay(tiny: SRModel, tmp_path: Path) -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("Title", "Märchen")
    text.add_text("Comment", "long " * 500, zip=True)
    text.add_itxt("Author", "日本", lang="ja")
    data = saved("PNG", pnginfo=text)
    path, notes = upscaled(tiny, tmp_path, data, "out.png")
    with Image.open(path) as image:
        assert (image.info["Title"], image.info["Comment"]) == ("Märchen", "long " * 500)
        assert image.info["Author"] == "日本"
    assert not notes
    path, notes = upscaled(tiny, tmp_path, data, "out.jpg")
    with Image.open(path) as image:
        assert image.info["comment"] == b"long " * 500
    assert any("Title, Author" in note for note in notes)
    path, notes = upscaled(tiny, tmp_path, data, "out.tif")
    with Image.open(path) as image:
        tags = image.tag_v2  # type: ignore[attr-defined]
        assert tags[270] == "long " * 500 and tags[315].encode("latin-1").decode() == "日本"
    assert not notes


@pytest.mark.parametrize("name", FORMATS)
def test_strip_drops_all(tiny: SRModel, tmp_path: Path, name: str) -> None:
    segment = jpeg._segment(jpeg.APP13, jpeg.PHOTOSHOP + from_iptc(IPTC))
    profile = write.colour.to_srgb(pyvips.Image.new_from_array(RGB).copy(interpretation="srgb"), None)
    base = saved("JPEG", exif=MARK + an_exif(6), xmp=PACKET, dpi=(300, 300), comment="hi", icc_profile=profile[1])
    path, _ = upscaled(tiny, tmp_path, base[:2] + segment + base[2:], f"out.{name}", strip=True)
    with Image.open(path) as image:
        assert image.size == (48, 72)  # orientation is applied all the same
        assert not set(image.info) & {"exif", "xmp", "icc_profile", "photoshop", "comment", "XML:com.adobe.xmp"}
        kept = {*range(254, 285), 296, 317, 338, 339} if name == "tif" else set()
        assert set(image.getexif()) <= kept
    seen = pyvips.Image.new_from_file(str(path))
    assert not any(seen.get_typeof(f) for f in ("exif-data", "xmp-data", "iptc-data", "icc-profile-data"))


class TestDirectories:
    @pytest.mark.parametrize("big", [False, True])
    def test_written_and_read_are_the_same(self, big: bool) -> None:
        source = Reader(io.BytesIO(an_exif()))
        before = source.directory(source.first)
        head = b"II+\0\x08\0\0\0" + (16).to_bytes(8, "little") if big else b"II*\0\x08\0\0\0"
        data = head + ifd.written(before, len(head), big=big)
        reader = Reader(io.BytesIO(data))
        assert reader.big == big
        assert reader.directory(reader.first) == before

    def test_pillow_reads_what_is_written(self) -> None:
        source = Reader(io.BytesIO(an_exif()))
        fields = Image.Exif()
        fields.load(b"Exif\0\0II*\0\x08\0\0\0" + ifd.written(source.directory(source.first), 8))
        assert fields.get_ifd(ExifTags.IFD.Exif)[0xA434] == "50mm"
