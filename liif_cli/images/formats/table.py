"""The table of image file formats, and lookups by content, name and suffix.

The table is an allow-list: a file is refused unless its first bytes are those of a listed format, whatever its name, so
that no SVG, PDF or other interpreter ever runs on an untrusted file.
"""

from liif_cli.errors import InputError, LimitError, UsageError
from liif_cli.images.formats import avif, bmp, gif, heic, jpeg, netpbm, png, tiff, webp
from liif_cli.images.formats.base import Format, heif_brands
from liif_cli.stores.addresses import Place

ALL: tuple[Format, ...] = (
    png.FORMAT,
    jpeg.FORMAT,
    webp.FORMAT,
    tiff.FORMAT,
    avif.FORMAT,
    gif.FORMAT,
    bmp.FORMAT,
    netpbm.FORMAT,
    heic.FORMAT,
)
"""Every format, in the order in which users see them."""

FORMATS: dict[str, Format] = {form.name: form for form in ALL if form.save}
"""Output formats by name."""

SUFFIXES = tuple(suffix for form in ALL for suffix in form.suffixes)
"""Suffixes of the files in a folder that are treated as images. A file given by name is read whatever its suffix."""

OUTPUT_SUFFIXES = {suffix: form for form in FORMATS.values() for suffix in form.suffixes}
"""The output format of each suffix."""

HEAD_BYTES = 64
"""The number of bytes that `sniff` needs."""


def sniff(head: bytes) -> Format:
    """The format of a file, by its first `HEAD_BYTES` bytes. Raises InputError if it is not in the table."""
    for form in ALL:
        if form.sniff(head):
            return form
    if heif_brands(head):
        raise InputError("this is an ISO media file, but neither AVIF nor HEIC")
    raise InputError(
        "this is not an image in a supported format" if head else "the file is empty",
        hint=f"supported formats: {listed([kind for form in ALL for kind in form.kinds or (form.label,)])}",
    )


def format_of(path: Place | None, name: str | None = None) -> Format:
    """The output format by `name`, otherwise by the suffix of `path`. Raises UsageError if there is none."""
    if name is not None:
        return _format_named(name.lower())
    suffix = path.suffix.lower() if path is not None else ""
    if suffix in OUTPUT_SUFFIXES:
        return OUTPUT_SUFFIXES[suffix]
    said = f"{suffix!r} is not the suffix of an output format" if suffix else "the output's name has no suffix"
    raise UsageError(said, hint=", ".join(FORMATS), remedy="format")


def _format_named(name: str) -> Format:
    for form in FORMATS.values():
        if name in (form.name, *form.aliases):
            return form
    raise UsageError(f"{name!r} is not an output format", hint=f"choose from {', '.join(FORMATS)}", argument="format")


def check_limits(form: Format, width: int, height: int) -> None:
    """Raises LimitError if the format cannot store an image of this size."""
    if max(width, height) > form.max_side:
        raise LimitError(
            f"{form.label} holds at most {form.max_side:,} pixels per side, but the output has {width}x{height}",
            hint="write PNG or TIFF instead",
        )


def listed(words: list[str], last: str = "and") -> str:
    """Words joined for a sentence: `A, B and C`. last: the conjunction."""
    return f" {last} ".join([*([", ".join(words[:-1])] if words[1:] else []), *words[-1:]])


def labels(*, animation: bool = False, quality: bool = False, lossless: bool = False) -> str:
    """The labels of the output formats with all of these features, joined: `JPEG, WebP and AVIF`."""
    fitting = [
        form
        for form in FORMATS.values()
        if (form.animation or not animation)
        and (form.quality or not quality)
        and (form.lossless != "never" or not lossless)
    ]
    return listed([form.label for form in fitting])


def qualities() -> str:
    """The default qualities as text for users: `JPEG 95, WebP 95, AVIF 90`."""
    return ", ".join(f"{form.label} {form.quality}" for form in FORMATS.values() if form.quality)


def on_request() -> str:
    """The labels of the formats that are lossless on request, joined: `WebP and AVIF`."""
    return listed([form.label for form in FORMATS.values() if form.lossless == "on request"])
