"""Writes the tables of docs/formats.md from the format objects: python tests/tools/make_formats.py

tests/images/test_formats.py fails if they differ.
"""

import re
from collections.abc import Callable
from pathlib import Path

from liif_cli.images.formats.base import Format
from liif_cli.images.formats.table import ALL, FORMATS

PAGE = Path(__file__).parents[2] / "docs" / "formats.md"
YES, NO = "✓", "–"
ROWS: dict[str, Callable[[Format], str]] = {
    "bits per sample": lambda form: "256 colours" if form.palette else ", ".join(map(str, form.depths)),
    "grayscale stays grayscale": lambda form: _gray(form),
    "transparency": lambda form: ("on or off" if form.palette else YES) if form.alpha else "on `--background`",
    "colour profile": lambda form: form.holds.profile,
    "EXIF": lambda form: form.holds.exif,
    "XMP": lambda form: form.holds.xmp,
    "IPTC": lambda form: form.holds.iptc,
    "dots per inch": lambda form: form.holds.dpi,
    "text": lambda form: form.holds.text,
    "all frames, timing, loops": lambda form: YES if form.animation else NO,
    "lossless": lambda form: {"always": "always", "on request": "`--lossless`", "never": NO}[form.lossless],
    "default quality": lambda form: str(form.quality or ""),
    "written from disk, row by row": lambda form: YES if form.streams else NO,
    "largest side, pixels": lambda form: "2³¹ − 1" if form.max_side == 2**31 - 1 else f"{form.max_side:,}",
}


def _gray(form: Format) -> str:
    if form.palette:
        return "as colours"
    if not form.gray:
        return "as RGB"
    return YES if form.gray == form.depths else f"{form.gray[0]} bits"


def output_table() -> str:
    """The table of what each output format can store."""
    forms = list(FORMATS.values())
    lines = ["| | " + " | ".join(", ".join(form.kinds) or form.label for form in forms) + " |"]
    lines.append("|---" * (len(forms) + 1) + "|")
    lines += [f"| {row} | " + " | ".join(cell(form) for form in forms) + " |" for row, cell in ROWS.items()]
    return "\n".join(lines) + "\n"


def input_table() -> str:
    """The table of the formats that are read."""
    lines = [f"| {', '.join(form.kinds) or form.label} | {form.variants} |" for form in ALL]
    return "\n".join(["| format | variants |", "|---|---|", *lines]) + "\n"


def placed(text: str) -> str:
    """The page `text` with the tables between their markers. Raises ValueError if a marker is missing."""
    for name, table in (("input", input_table), ("output", output_table)):
        pattern = re.compile(f"(<!-- {name} formats -->\n).*?(<!-- end of {name} formats -->)", re.DOTALL)
        if not pattern.search(text):
            raise ValueError(f"docs/formats.md has no <!-- {name} formats -->")
        text = pattern.sub(lambda match, table=table: match[1] + table() + match[2], text)  # type: ignore[misc]
    return text


if __name__ == "__main__":
    PAGE.write_text(placed(PAGE.read_text("utf-8")), "utf-8")
