"""Images, crop figures and plots written by an evaluation."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from liif_cli.errors import OutputError, UsageError
from liif_cli.evaluation.benchmarks import Benchmark
from liif_cli.evaluation.crops import Box, box_of_largest_difference, draw_figure
from liif_cli.evaluation.evaluate import Shown
from liif_cli.evaluation.plot import check_matplotlib, draw_plot
from liif_cli.evaluation.scores import Row, number
from liif_cli.images.levels import quantize
from liif_cli.images.panels import Panel
from liif_cli.machine.files import OutputFile, check_target

Bytes = NDArray[np.uint8]
_FIGURES = (".png", ".jpg", ".jpeg", ".webp", ".tiff", ".pdf")
_CHARTS = (".png", ".pdf", ".svg")


@dataclass
class Artifacts:
    """Collects results as they are measured (`add`) and writes what is requested: each field that is not None.

    save_images: a folder for all results. figure: a file for crops of one image, `figure_image` (a name; default: the first
    of the set) at `figure_scale` (default: 4 if that is scored, otherwise the first scale), in `crop` ("X,Y,W,H"; default:
    where the first method differs most from the ground truth), by the first degradation. plot: a file for PSNR against
    scale.
    """

    save_images: Path | None = None
    figure: Path | None = None
    figure_image: str | None = None
    figure_scale: float | None = None
    crop: str | None = None
    plot: Path | None = None
    overwrite: bool = False
    _box: Box | None = None
    _image: Path | None = None
    _shown: list[Shown] = field(default_factory=list)
    _saved: set[Path] = field(default_factory=set)

    @property
    def wanted(self) -> bool:
        """Whether `add` does anything."""
        return self.save_images is not None or self.figure is not None

    def prepare(self, dataset: Benchmark) -> None:
        """Choose the image and scale of the figure. Raises UsageError or OutputError if anything could not be written later."""
        if self.save_images is not None and not self.overwrite and _is_not_empty(self.save_images):
            raise OutputError(f"{self.save_images} is not empty", remedy="overwrite")
        for target, suffixes in ((self.figure, _FIGURES), (self.plot, _CHARTS)):
            if target is not None:
                check_target(target, self.overwrite)
                _check_suffix(target, suffixes)
        if self.plot is not None:
            check_matplotlib()
        self._box = None if self.crop is None else Box.parse(self.crop)
        if self.figure is None:
            return
        named = [image for image in dataset.images if self.figure_image in (None, image.name, image.stem)]
        if not named:
            raise UsageError(
                f"{self.figure_image} is not an image of {dataset.name}",
                hint="use the name of an image in the set",
                argument="figure_image",
            )
        self._image = named[0]
        self.figure_scale = self.figure_scale or (4.0 if 4.0 in dataset.scales else dataset.scales[0])
        if self.figure_scale not in dataset.scales:
            raise UsageError(
                f"{self.figure_scale:g} is not one of the scales to score",
                hint="use one of " + ", ".join(f"{scale:g}" for scale in dataset.scales),
                argument="figure_scale",
            )

    def add(self, shown: Shown) -> None:
        """Save a result, or keep it for the figure."""
        if self.save_images is not None:
            degraded = f"_{shown.degraded.replace(':', '')}" * bool(shown.degraded)
            self._save(shown, self.save_images / shown.dataset / f"x{shown.scale:g}{degraded}")
        if self.figure is not None and shown.image == self._image and shown.scale == self.figure_scale:
            self._shown += [shown] * (not self._shown or shown.degraded == self._shown[0].degraded)

    def write(self, rows: Sequence[Row], *, alone: bool = True) -> None:
        """Write figure and plot. Of several processes (not `alone`), the one that measured the image draws the figure."""
        if self.figure is not None and (self._shown or alone):
            self._draw_figure(self.figure)
        if self.plot is not None and rows:
            with OutputFile(self.plot, self.overwrite) as temporary:
                draw_plot(rows, temporary)

    def _draw_figure(self, target: Path) -> None:
        seen = [shown for shown in self._shown if shown.method != "x4-lanczos"]
        if not seen:
            raise UsageError(
                f"the image is too small to be scored at ×{self.figure_scale:g}", hint="choose a larger image"
            )
        truth = seen[0].pair.high
        box = self._box or box_of_largest_difference(seen[0].result, truth / 255)
        panels = [
            Panel(f"{shown.method}\n{number(shown.score.psnr, 2)} dB", quantize(shown.result, np.uint8))
            for shown in seen
        ]
        sheet = draw_figure(Panel(f"ground truth\nx{self.figure_scale:g}", truth), panels, box)
        _save_image(Image.fromarray(sheet), target, self.overwrite)

    def _save(self, shown: Shown, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot create the folder {folder}: {error.strerror}") from error
        stem = shown.image.stem
        name = "".join(c if c.isalnum() or c in "-_." else "_" for c in shown.method)
        images = {name: quantize(shown.result, np.uint8), "low": shown.pair.low, "truth": shown.pair.high}
        for what, pixels in images.items():
            target = folder / f"{stem}_{what}.png"
            if target not in self._saved:  # "low" and "truth" are the same for every method
                _save_image(Image.fromarray(np.ascontiguousarray(pixels)), target, self.overwrite)
                self._saved.add(target)


def _save_image(image: Image.Image, target: Path, overwrite: bool) -> None:
    try:
        with OutputFile(target, overwrite) as temporary:
            image.save(temporary)
    except OSError as error:
        raise OutputError(f"cannot write {target}: {error.strerror or error}") from error


def _is_not_empty(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def _check_suffix(target: Path, suffixes: Sequence[str]) -> None:
    if target.suffix.lower() not in suffixes:
        raise UsageError(f"cannot write the format of {target.name}", hint=f"use one of {' '.join(suffixes)}")
