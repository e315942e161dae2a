"""The picture formats that are read and written: how each is recognised, and what each can hold.

The allow-list: a file whose first bytes are none of these is refused, whatever its name says, so that no SVG, PDF or
other interpreter is ever started on a stranger's file.
"""

from pathlib import Path

from liif_cli.errors import InputError, LimitError, UsageError
from liif_cli.images.formats.base import Format

HEAD_BYTES = 64
"""How much of a file `sniff` wants to see."""


FORMATS: dict[str, Format] = {
    "png": Format("png", "PNG", (".png", ".apng"), 2**31 - 1, (8, 16), True, True, True, True, (8, 16)),
    "jpeg": Format("jpeg", "JPEG", (".jpg", ".jpeg", ".jpe", ".jfif"), 65_500, (8,), False, False, True, False, (8,)),
    "tiff": Format("tiff", "TIFF", (".tif", ".tiff"), 2**31 - 1, (8, 16), True, False, True, True, (8, 16)),
    "webp": Format("webp", "WebP", (".webp",), 16_383, (8,), True, True, False, True, ()),
    "avif": Format("avif", "AVIF", (".avif",), 16_384, (8, 10, 12), True, False, False, True, (8,)),
    "gif": Format("gif", "GIF", (".gif",), 65_535, (8,), True, True, False, False, ()),
}
"""Output formats by name. JPEG itself holds 65,535 pixels a side, libjpeg 65,500; AVIF is bounded by libvips. GIF, for
animations and stills, comes with a palette of 256 colours."""

READABLE = ("png", "jpeg", "tiff", "webp", "gif", "bmp", "ppm", "avif", "heic")
"""Formats that `read.read` takes."""


def sniff(head: bytes) -> str:
    """Name of the format that a file's first bytes (64 are enough) show. InputError when it is none we read."""
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if head.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "tiff"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return "gif"
    if head[:2] == b"BM":
        return "bmp"
    if head[:1] == b"P" and head[1:2] in b"123456" and head[2:3].isspace():
        return "ppm"
    if head[4:8] == b"ftyp":
        return _sniff_heif(head)
    raise InputError(
        "this is not a picture of a kind that is read here" if head else "the file is empty",
        hint="readable are PNG, APNG, JPEG, WebP, TIFF, GIF, BMP, PPM, PGM, AVIF and HEIC",
    )


def _sniff_heif(head: bytes) -> str:
    brands = head[8:12], *(head[i : i + 4] for i in range(16, min(len(head), int.from_bytes(head[:4])), 4))
    if any(brand in (b"avif", b"avis") for brand in brands):
        return "avif"
    if any(brand in (b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1") for brand in brands):
        return "heic"
    raise InputError("this is an ISO media file, but neither AVIF nor HEIC")


def format_of(path: Path | None, name: str | None = None) -> Format:
    """The output format that `name` (as given to --format) or else the suffix of `path` asks for. UsageError."""
    if name is not None:
        known = {**FORMATS, "jpg": FORMATS["jpeg"], "tif": FORMATS["tiff"], "apng": FORMATS["png"]}
        if name.lower() in known:
            return known[name.lower()]
        raise UsageError(f"no output format is called {name!r}", hint=f"there are {', '.join(FORMATS)}")
    suffix = path.suffix.lower() if path is not None else ""
    for form in FORMATS.values():
        if suffix in form.suffixes:
            return form
    said = f"the suffix {suffix!r} stands for no output format" if suffix else "the output's name has no suffix"
    raise UsageError(said, hint=f"use --format with one of {', '.join(FORMATS)}")


def check_limits(form: Format, width: int, height: int) -> None:
    """Raise LimitError where a picture of this size does not go into the format."""
    if max(width, height) > form.max_side:
        raise LimitError(
            f"{form.label} holds at most {form.max_side:,} pixels a side, and the output has {width}x{height}",
            hint="write PNG or TIFF instead",
        )


SUFFIXES = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".tif", ".tiff", ".gif"),
    *(".bmp", ".dib", ".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".heic", ".heif"),
)
"""What is taken for a picture in a folder; a file that is named is read whatever it is called."""
