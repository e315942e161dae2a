"""Shapes that make a parser quadratic: the time for a file grows as its size does, and nothing that it claims is allocated."""

import io
import struct
import time
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from robustness.campaign import _reset_peak, _status
from robustness.images import judged

from liif_cli.errors import InputError, LiifError
from liif_cli.images import read, write
from liif_cli.images.formats import heif
from liif_cli.images.metadata import xmp
from liif_cli.images.source import Source

SEVERAL = 4
"""By which a file is made larger."""


def image(form: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.arange(12 * 16 * 3, dtype=np.uint8).reshape(12, 16, 3)).save(file, form, **options)
    return file.getvalue()


def chunk(name: bytes, body: bytes) -> bytes:
    return len(body).to_bytes(4) + name + body + zlib.crc32(name + body).to_bytes(4)


def segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2) + body


def box(name: bytes, body: bytes) -> bytes:
    return (len(body) + 8).to_bytes(4) + name + body


def png_with(*chunks: bytes) -> bytes:
    data = image("PNG")
    return data[:33] + b"".join(chunks) + data[33:]


def jpeg_with(inside: bytes) -> bytes:
    data = image("JPEG")
    return data[:2] + inside + data[2:]


def avif_with(name: bytes, body: bytes) -> bytes:
    """An AVIF whose `meta` has another first box of that name."""
    data = image("AVIF")
    at = data.index(b"meta") + 8
    size = int.from_bytes(data[at - 12 : at - 8])
    new = box(name, body)
    return data[: at - 12] + (size + len(new)).to_bytes(4) + b"meta" + data[at - 4 : at] + new + data[at:]


def tiff_pages(n: int) -> bytes:
    """A TIFF of n pages of one pixel each."""
    head, step, tags = b"II*\0\x08\0\0\0", 2 + 12 * 8 + 4, []
    for tag, value in ((256, 1), (257, 1), (258, 8), (259, 1), (262, 1), (273, 8), (278, 1), (279, 1)):
        tags.append(struct.pack("<HHII", tag, 3, 1, value))
    body = b"".join(tags)
    pages = (struct.pack("<H", 8) + body + struct.pack("<I", 8 + step * (i + 1) if i + 1 < n else 0) for i in range(n))
    return head + b"".join(pages)


BLOCK = b"8BIM\x04\x00\0\0\0\0\0\0"
SHAPES: dict[str, tuple[Callable[[int], bytes], int]] = {
    "PNG: texts": (lambda n: png_with(*[chunk(b"tEXt", b"k%d\0v" % i) for i in range(n)]), 4000),
    "PNG: profiles": (lambda n: png_with(*[chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(9999)))] * n), 500),
    "PNG: empty chunks": (lambda n: png_with(*[chunk(b"prVt", b"")] * n), 20_000),
    "JPEG: Photoshop blocks": (lambda n: jpeg_with(segment(0xED, b"Photoshop 3.0\0" + BLOCK * 20) * n), 2000),
    "JPEG: comments": (lambda n: jpeg_with(segment(0xFE, b"x") * n), 4000),
    "JPEG: profiles": (lambda n: jpeg_with(segment(0xE2, b"ICC_PROFILE\0\1\1" + b"x" * 99) * n), 4000),
    "JPEG: fill bytes behind a scan": (lambda n: image("JPEG")[:-2] + b"\xff" * 25 * n + b"\0", 2000),
    "TIFF: pages": (tiff_pages, 1000),
    "AVIF: empty boxes": (lambda n: avif_with(b"iprp", box(b"ipco", box(b"free", b"") * n)), 20_000),
    "PPM: comments": (lambda n: b"P6\n" + b"#x\n" * 5 * n + b"1 1 255\nabc", 2000),
    "PPM: spaces": (lambda n: b"P6" + b" " * 15 * n + b"x", 2000),
    "GIF: comments": (lambda n: image("GIF")[:13] + image("GIF")[13:-1] + b"!\xfe\1x\0" * n + b";", 10_000),
    "WebP: chunks": (lambda n: image("WEBP") + b"ABCD\0\0\0\0" * n, 20_000),
}  # fmt: skip


def seconds(data: bytes) -> float:
    start = time.process_time()
    judged(data)
    return time.process_time() - start


@pytest.mark.parametrize("shape", SHAPES)
def test_the_time_grows_with_the_size(shape: str) -> None:
    make, n = SHAPES[shape]
    judged(make(2))
    small, large = seconds(make(n)), seconds(make(SEVERAL * n))
    assert large < 0.3 or large < 2.5 * SEVERAL * small, f"{small:.2f} s, and {SEVERAL} times as much {large:.2f} s"


PACKETS = {
    "spaces": lambda n: b"<x" + b" " * n + b"/>",
    "a long name": lambda n: b"a" * n + b":SerialNumber",
    "elements that are not closed": lambda n: b"<aux:SerialNumber>" * (n // 18),
    "regions that are not closed": lambda n: b"<mwg-rs:Regions " * (n // 16),
    "closing tags": lambda n: b"</exif:GPSLatitude>" * (n // 19),
    "attributes without an end": lambda n: b' exif:GPSLatitude="' * (n // 19),
}


@pytest.mark.parametrize("shape", PACKETS)
@pytest.mark.parametrize(
    "change", [xmp.without_location, lambda packet: xmp.updated(packet, 9, 9)], ids=["place", "size"]
)
def test_the_time_for_xmp_grows_with_its_size(shape: str, change: Callable[[bytes], object]) -> None:
    packet = PACKETS[shape](1_000_000)
    start = time.process_time()
    change(packet)
    assert time.process_time() - start < 5


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP"])
def test_frames_are_read_in_one_pass(form: str) -> None:
    """Each was once decoded from the first on: the work for n frames was that for n * n."""
    ground = np.arange(12 * 16 * 3, dtype=np.uint8).reshape(12, 16, 3)
    frames = [Image.fromarray(np.roll(ground, i, 1)) for i in range(16)] * 40
    frames[3] = frames[3].convert("RGBA")
    frames[3].putpixel((1, 1), (0, 0, 0, 0))
    file = io.BytesIO()
    options = {"lossless": True, "method": 0} if form == "WEBP" else {}
    frames[0].save(
        file, form, save_all=True, append_images=frames[1:], duration=[20 + i % 3 for i in range(640)], **options
    )
    data = file.getvalue()
    first, start = read.read(data), time.process_time()
    later = list(read.later_frames(data, first.timing))
    assert time.process_time() - start < 3 and len(later) == first.timing.frames - 1 > 600
    for frame in (2, 4, 17, 600):
        np.testing.assert_array_equal(later[frame - 2].pixels, read.read(data, frame=frame).pixels)


def test_an_animation_that_lost_frames_is_an_input_error() -> None:
    file = io.BytesIO()
    frames = [Image.new("RGB", (8, 8), (i, 0, 0)) for i in (0, 99, 200)]
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    timing = replace(read.read(file.getvalue()).timing, durations=(10,) * 5)
    with pytest.raises(InputError, match="no frame 4"):
        list(read.later_frames(file.getvalue(), timing))


def test_items_of_an_avif_are_passed_over_whatever_they_claim() -> None:
    """65,535 places each that take no bytes; and one property of 8 MB that all items have."""
    start = time.process_time()
    places = bytes(6) + (200).to_bytes(2) + struct.pack(">HHH", 999, 0, 65_535) * 200
    assert heif._located(places, 1) is None
    long = bytes(4) + b"x" * 2**23
    assert heif._items_of_alpha(
        bytes(4) + (4000).to_bytes(4) + b"\0\1\1\1" * 4000, [(b"auxC", 0, len(long))], long
    ) == ([], [])
    assert time.process_time() - start < 3


def peak_of(work: Callable[[], object]) -> int:
    """MiB that some work adds to this process at its peak; 0 if the system does not tell."""
    before = _reset_peak()
    work()
    return (_status("VmHWM") - before) // 1024


@pytest.mark.parametrize("table", heif.TABLES)
@pytest.mark.parametrize("place", ["properties", "items", "no other box"])
@pytest.mark.parametrize("flags", [0, 1, 255])
def test_what_a_table_of_an_avif_claims_is_not_allocated(table: bytes, place: str, flags: int) -> None:
    """libheif takes up to 192 MiB for it."""
    kind = bytes(8 * (flags & 1 and table.startswith(b"sai")))
    large = box(table, bytes([flags] * 4) + kind + bytes(table == b"saiz") + (2**24 - 1).to_bytes(4) + bytes(50))
    places = {"properties": (b"iprp", box(b"ipco", large)), "items": (b"iinf", large)}
    data = avif_with(*places[place]) if place in places else image("AVIF") + large

    def refused() -> None:
        with pytest.raises(InputError, match="claims more entries"):
            read.probe(data)

    read.read(image("AVIF"))
    assert peak_of(refused) < 8


@pytest.mark.parametrize("table", [b"stts", b"stsc"])
def test_an_animation_s_tables_are_not_unfolded(table: bytes) -> None:
    """Its first frame is read as if there were no others, whatever they claim."""
    file = io.BytesIO()
    frames = [Image.new("RGB", (16, 12), (i, 50, 90)) for i in (0, 99, 200)]
    frames[0].save(file, "AVIF", save_all=True, append_images=frames[1:])
    good = file.getvalue()
    at = good.index(table) + 8
    forged = good[:at] + (2**24 - 1).to_bytes(4) + good[at + 4 :]
    expected = read.read(good)
    assert expected.notes == ("an animation in AVIF or HEIC: only its first frame is read",)
    np.testing.assert_array_equal(expected.pixels, Source(good).vips("heifload").numpy()[..., :3])

    def same() -> None:
        np.testing.assert_array_equal(read.read(forged).pixels, expected.pixels)

    assert peak_of(same) < 8


def test_an_item_s_data_may_look_like_a_table() -> None:
    """Nothing is looked for in it."""
    data = avif_with(b"idat", box(b"stts", bytes([0, 0, 0, 0, 255, 255, 255, 255])))
    assert (read.probe(data).width, read.probe(data).height) == (16, 12)


def test_a_side_that_no_library_takes_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    """GLib complained on standard error."""
    data = image("AVIF")
    at = data.index(b"ispe") + 8
    with pytest.raises(InputError, match="claims a side of 2,147,483,647 pixels"):
        read.probe(data[:at] + (2**31 - 1).to_bytes(4) + data[at + 4 :])
    assert capfd.readouterr().err == ""


def test_a_bmp_s_claim_is_not_allocated() -> None:
    """Masks, and a billion pixels, in 70 bytes."""
    head = b"BM" + bytes(8) + struct.pack("<I", 66) + struct.pack("<IiiHHI", 40, 30_000, 30_000, 1, 32, 3) + bytes(20)
    data = head + struct.pack("<3I", 0xFF0000, 0xFF00, 0xFF)
    with pytest.raises(LiifError, match="ends early"):
        read.read(data)


@pytest.mark.parametrize("place", [b"rdf+xml", b"Exif\0\0"], ids=["type of content", "type of item"])
def test_a_heic_whose_items_are_not_text_is_refused(place: bytes) -> None:
    """pi-heif ended the process."""
    data = (Path(__file__).parents[1] / "data" / "phone.heic").read_bytes()
    pytest.importorskip("pi_heif")
    with pytest.raises(InputError, match="not valid UTF-8"):
        read.read(data.replace(place, b"\xff" * len(place), 1))


def test_a_note_is_short_whatever_is_dropped() -> None:
    picture = read.read(png_with(*[chunk(b"tEXt", b"k%d\0v" % i) for i in range(5000)]))
    for suffix in ("webp", "tif", "avif", "gif", "jpg", "png", "bmp"):
        file = io.BytesIO()
        notes = write.write(file, picture.pixels, picture.metadata, write.SaveOptions(format=suffix))
        assert all(len(note) < 500 for note in notes), suffix
