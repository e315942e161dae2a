"""Parses scale, size, region and cell as users write them, and makes the grid of output pixels."""

import re
from dataclasses import dataclass, replace
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Literal

from liif_cli.coords import Axis, Grid
from liif_cli.errors import LimitError, UsageError

Fit = Literal["exact", "contain", "cover", "crop"]
FITS: tuple[Fit, ...] = ("exact", "contain", "cover", "crop")
GRAVITY = {
    "center": (0.5, 0.5),
    "north": (0.0, 0.5),
    "south": (1.0, 0.5),
    "west": (0.5, 0.0),
    "east": (0.5, 1.0),
    "northwest": (0.0, 0.0),
    "northeast": (0.0, 1.0),
    "southwest": (1.0, 0.0),
    "southeast": (1.0, 1.0),
}
"""The position of a crop: the share of the excess pixels that is cut off at the top and at the left, (y, x)."""
INCHES = {"in": Decimal(1), "cm": 1 / Decimal("2.54"), "mm": 1 / Decimal("25.4")}
MAX_PIXELS = 2**31
ASPECT_TOLERANCE = 0.01
LARGEST = Decimal(10**9)
SCREENS = {
    **dict.fromkeys(("hd", "720p"), (1280, 720)),
    **dict.fromkeys(("fhd", "fullhd", "1080p"), (1920, 1080)),
    **dict.fromkeys(("qhd", "wqhd", "1440p"), (2560, 1440)),
    **dict.fromkeys(("4k", "uhd", "2160p"), (3840, 2160)),
    **dict.fromkeys(("5k", "2880p"), (5120, 2880)),
    **dict.fromkeys(("8k", "4320p"), (7680, 4320)),
}
"""(width, height) in pixels of screens, by name, for hints. A name does not say whether an image should fill the screen."""
CLIPPED_CELL = 0.25  # the cell at ×4, the largest scale that published models were trained for


@dataclass(frozen=True)
class Scale:
    """`7.5`, or `2x3.5` (x by y), stored as decimals, so that output sizes are rounded exactly."""

    x: Decimal
    y: Decimal
    text: str

    @classmethod
    def parse(cls, text: str) -> "Scale":
        """Parse a scale: one or two finite positive numbers, or `4x`, `x4`, `×4`, `400%`. Raises `UsageError`."""
        plain = _with_x(text)
        if plain.count("x") == 1 and plain != "x":  # 4x, x4
            plain = plain.strip("x")
        if plain.endswith("%"):
            percent = _positive_decimal(plain.removesuffix("%"))
            plain = plain if percent is None else f"{(percent / 100).normalize():f}"
        numbers = [_positive_decimal(part) for part in plain.split("x")]
        if not 1 <= len(numbers) <= 2 or None in numbers:
            raise UsageError(f"{text!r} is not a scale", hint=_scale_hint(plain), argument="scale")
        x, y = numbers[0], numbers[-1]
        assert x is not None and y is not None
        return cls(x, y, plain)

    def of(self, size: tuple[int, int]) -> tuple[int, int]:
        """Output (height, width) for an input of `size` (height, width): n * scale, rounded half up, at least 1."""
        return _round(size[0] * self.y), _round(size[1] * self.x)

    @property
    def label(self) -> str:
        """For file names: `7.5x`, `2x3.5x`."""
        return f"{self.text}x"


@dataclass(frozen=True)
class Size:
    """`1920x1080`, `1920x` or `x1080`, in pixels. If a side is None, it follows from the input's aspect ratio.

    fit: see `of` and `cropped`. gravity: a key of `GRAVITY`.
    """

    width: int | None
    height: int | None
    fit: Fit = "exact"
    gravity: str = "center"

    @classmethod
    def parse(cls, text: str, fit: Fit = "exact") -> "Size":
        """Parse a size. Raises `UsageError` unless it is WxH, Wx or xH with positive whole numbers."""
        match = re.fullmatch(r"(\d*)x(\d*)", _with_x(text))
        sides = [int(side) if side else None for side in match.groups()] if match else [None, None]
        if sides == [None, None] or 0 in sides:
            raise UsageError(f"{text!r} is not a size", hint=_size_hint(_with_x(text)), argument="size")
        return cls(sides[0], sides[1], fit)

    def of(self, size: tuple[int, int]) -> tuple[int, int]:
        """Output (height, width) for an input of `size` (height, width).

        "exact": the box of width and height. "contain" fits into the box. "cover" and "crop" cover it; with "crop", `cropped`
        then cuts off the excess.
        """
        height, width = size
        if self.width is None or self.height is None:
            if self.width is None:
                assert self.height is not None
                return self.height, _round(Decimal(width * self.height) / height)
            return _round(Decimal(height * self.width) / width), self.width
        if self.fit == "exact":
            return self.height, self.width
        wide = self.width * height < self.height * width  # the box is narrower than the image
        by_width = wide if self.fit == "contain" else not wide
        return (Size(self.width, None) if by_width else Size(None, self.height)).of(size)

    def cropped(self, grid: Grid) -> Grid:
        """With `crop`, the part of `grid`, which covers the box, that fills the box exactly; otherwise all of `grid`."""
        if self.fit != "crop" or self.width is None or self.height is None:
            return grid
        above, left = GRAVITY[self.gravity]
        top, first = int((grid.rows.count - self.height) * above), int((grid.columns.count - self.width) * left)
        return Grid(grid.rows.part(top, top + self.height), grid.columns.part(first, first + self.width))

    @property
    def label(self) -> str:
        """For file names, before the input's size is known: `1920x1080`, `1920x`, `x1080`."""
        return f"{self.width or ''}x{self.height or ''}"


@dataclass(frozen=True)
class PrintSize:
    """`30x20cm`, `12x8in`, `300xmm`: a size on paper, stored in inches. `at` converts it to a `Size`."""

    width: Decimal | None
    height: Decimal | None
    text: str
    fit: Fit = "exact"
    gravity: str = "center"

    def at(self, dpi: tuple[float, float] | None) -> Size:
        """The size in pixels at `dpi` dots per inch, (x, y). Raises `UsageError` if `dpi` is None."""
        if dpi is None:
            raise UsageError(
                f"{self.text!r} is a size on paper, but the image has no resolution",
                hint="give the resolution in dots per inch, or a size in pixels",
                argument="size",
                remedy="dpi",
            )
        width, height = (
            None if side is None else _round(side * Decimal(per_inch))
            for side, per_inch in zip((self.width, self.height), dpi, strict=True)
        )
        return Size(width, height, self.fit, self.gravity)


Target = Scale | Size | PrintSize


def parse_size(text: str, fit: Fit = "exact", gravity: str = "center", dpi: float | None = None) -> Size | PrintSize:
    """Parse a size in pixels or on paper. With `dpi`, a size on paper is converted to pixels. Raises `UsageError`."""
    plain = _with_x(text).replace('"', "in").replace("inches", "in").replace("inch", "in")
    found = re.fullmatch(r"([\d.]*)(in|cm|mm|px)?x([\d.]*)(in|cm|mm|px)?", plain)
    units = {unit for unit in (found[2], found[4]) if unit} if found else set()
    if found is None or units <= {"px"}:
        return replace(Size.parse(re.sub("px", "", plain) if units else text, fit), gravity=gravity)
    if len(units) > 1:
        raise UsageError(f"{text!r} has several units", hint="use one unit for both sides: 30x20cm", argument="size")
    inches = INCHES[units.pop()]
    sides = [_positive_decimal(side) if side else None for side in (found[1], found[3])]
    if sides == [None, None] or any(
        side and number is None for side, number in zip(found.group(1, 3), sides, strict=True)
    ):
        raise UsageError(f"{text!r} is not a size", hint="use 30x20cm, 12x8in, 300x200mm, or 30xcm", argument="size")
    width, height = (None if side is None else side * inches for side in sides)
    size = PrintSize(width, height, text, fit, gravity)
    return size if dpi is None else size.at((dpi, dpi))


@dataclass(frozen=True)
class Region:
    """A rectangle of whole pixels of the upright input: `X,Y,W,H`."""

    x: int
    y: int
    width: int
    height: int

    @classmethod
    def parse(cls, text: str) -> "Region":
        """Parse `X,Y,W,H`. Raises `UsageError` unless they are whole numbers and W and H are positive."""
        match = re.fullmatch(r"\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*", text)
        region = cls(*map(int, match.groups())) if match else None
        if region is None or 0 in (region.width, region.height):
            raise UsageError(
                f"{text!r} is not a region",
                hint="use X,Y,WIDTH,HEIGHT in pixels of the upright input",
                argument="region",
            )
        return region

    def check(self, size: tuple[int, int]) -> None:
        """Raises `UsageError` unless the region is inside an image of `size` (height, width)."""
        if self.x + self.width > size[1] or self.y + self.height > size[0]:
            raise UsageError(
                f"{self.x},{self.y},{self.width},{self.height} reaches beyond the image of {size[1]}x{size[0]}",
                argument="region",
            )


@dataclass(frozen=True)
class Cell:
    """The cell size that is passed to the decoder (paper, figure 7).

    `raw`: the size of the output pixel. `clip`: the same, but at least the ×4 cell. `1/k`: 1/k of an input pixel, in `part`.
    """

    text: str = "raw"
    part: float | None = None

    @classmethod
    def parse(cls, text: str) -> "Cell":
        """Parse a cell. Raises `UsageError` for any other text."""
        if text in ("raw", "clip"):
            return cls(text)
        divisor = _positive_decimal(text.removeprefix("1/")) if text.startswith("1/") else None
        if divisor is None:
            raise UsageError(f"{text!r} is not a cell", hint="use raw, clip, or 1/k with a positive k", argument="cell")
        return cls(text, float(1 / divisor))

    def over(self, grid: Grid) -> Grid:
        """The same pixels with this cell."""
        if self.text == "raw":
            return grid
        rows, columns = (self.part or max(axis.cell, CLIPPED_CELL) for axis in (grid.rows, grid.columns))
        return Grid(grid.rows.with_cell(rows), grid.columns.with_cell(columns))


RAW = Cell()


def aspect_change(size: tuple[int, int], count: tuple[int, int]) -> float:
    """The relative change of the aspect ratio from an image of `size` to an output of `count`, both (height, width)."""
    return abs((count[1] / count[0]) / (size[1] / size[0]) - 1)


def check_pixels(count: tuple[int, int], max_pixels: int = MAX_PIXELS) -> None:
    """Raises `LimitError` if an output of `count` (height, width) has more than `max_pixels`, before anything is allocated."""
    if count[0] * count[1] > max_pixels:
        raise LimitError(
            f"the output would have {count[1]}x{count[0]} pixels, more than the limit of {max_pixels:,}",
            remedy="max_pixels",
        )


def make_grid(size: tuple[int, int], target: Scale | Size, region: Region | None = None, cell: Cell = RAW) -> Grid:
    """The grid of output pixels over an image of `size` (height, width).

    With a `Scale`, a region is rendered with pixels of the whole image's grid: its size times the scale, centred on it. With a
    `Size`, a region has its own grid. Raises `UsageError` if the region is not inside the image.
    """
    grid = _grid(size, target, region)
    return cell.over(target.cropped(grid) if isinstance(target, Size) else grid)


def _grid(size: tuple[int, int], target: Scale | Size, region: Region | None) -> Grid:
    if region is None:
        return Grid.whole(size, target.of(size))
    region.check(size)
    if isinstance(target, Scale):
        whole = Grid.whole(size, target.of(size))
        height, width = target.of((region.height, region.width))
        rows = whole.rows.window(region.y, region.y + region.height, height)
        return Grid(rows, whole.columns.window(region.x, region.x + region.width, width))
    height, width = target.of((region.height, region.width))
    return Grid(
        Axis(size[0], height, 0, height, region.y, region.height),
        Axis(size[1], width, 0, width, region.x, region.width),
    )


def _with_x(text: str) -> str:
    """`text` in lower case without spaces, with `x` for every multiplication sign."""
    return re.sub(r"\s+", "", text.lower()).replace("×", "x").replace("*", "x")


def _scale_hint(text: str) -> str:
    """The hint for a text that is not a scale: what was probably meant."""
    if re.fullmatch(r"\d+,\d+", text):
        return f"use a decimal point: {text.replace(',', '.')}"
    if text in SCREENS:
        return f"give this screen size as a size: {SCREENS[text][0]}x{SCREENS[text][1]}"
    return "use a positive number such as 7.5, or 2x3.5 (x by y)"


def _size_hint(text: str) -> str:
    """The hint for a text that is not a size: what was probably meant."""
    if text in SCREENS:
        width, height = SCREENS[text]
        return f"use {width}x{height} for exactly this size, or {width}x or x{height} to keep the aspect ratio"
    if text.isdigit():
        return f"use {text}x for the width, or x{text} for the height"
    return "use WIDTHxHEIGHT such as 1920x1080, or 1920x, or x1080"


def _positive_decimal(text: str) -> Decimal | None:
    try:
        number = Decimal(text.strip())
    except InvalidOperation:
        return None
    # min: 1e999999 is a valid decimal too, and its integer would fill the memory before any limit is checked.
    return min(number, LARGEST) if number.is_finite() and number > 0 else None


def _round(value: Decimal) -> int:
    return max(1, int(value.to_integral_value(rounding=ROUND_HALF_UP)))
