"""The tables and figures of the LIIF paper: their rows, the presets of each row, and the published PSNR in dB."""

from dataclasses import dataclass

SCALES = (2.0, 3.0, 4.0, 6.0, 12.0, 18.0, 24.0, 30.0)
FIXED = (2, 3, 4)
Published = dict[str, dict[float, float]]
"""PSNR in dB by data set and scale."""


@dataclass(frozen=True)
class Line:
    """A row of a table, or the panels of one method in a figure.

    presets: of its models: several if each renders one scale, none if there is nothing to train. published: the paper's PSNR.
    cells: the cell sizes of a figure's panels.
    """

    name: str
    presets: tuple[str, ...]
    published: Published
    cells: tuple[str, ...] = ("raw",)


@dataclass(frozen=True)
class Table:
    """A table, or a figure, which has no data sets. datasets: those of the paper, by their names in liif."""

    name: str
    title: str
    datasets: tuple[str, ...]
    protocol: str
    scales: tuple[float, ...]
    lines: tuple[Line, ...]

    @property
    def presets(self) -> list[str]:
        """The presets of all of its models, without duplicates."""
        return list(dict.fromkeys(preset for line in self.lines for preset in line.presets))


def _div2k(name: str, presets: tuple[str, ...], *psnr: float) -> Line:
    return Line(name, presets, {"div2k": dict(zip(SCALES, psnr, strict=False))})


def _sets(name: str, presets: tuple[str, ...], *psnr: tuple[float, ...]) -> Line:
    return Line(
        name, presets, {key: dict(zip(TABLE2, each, strict=False)) for key, each in zip(BENCHMARKS, psnr, strict=True)}
    )


def _faces(task: str, method: str, name: str, psnr: float) -> Line:
    low, high = map(int, task.split("-"))
    return Line(f"{name}, {low} -> {high}", (f"celebahq-{task}-{method}",), {f"celebahq-{task}": {high / low: psnr}})


LIIF = "edsr-baseline-liif"
PAPER = "edsr-baseline-liif-paper"
BENCHMARKS = ("set5", "set14", "b100", "urban100")
TABLE2 = (2.0, 3.0, 4.0, 6.0, 8.0)
OURS = _div2k("LIIF", (PAPER,), 34.67, 30.96, 29.00, 26.75, 23.71, 22.17, 21.18, 20.48)

TABLES = {
    table.name: table
    for table in (
        Table(
            "table1",
            "Table 1: DIV2K validation set",
            ("div2k",),
            "div2k",
            SCALES,
            (
                _div2k("Bicubic", (), 31.01, 28.22, 26.66, 24.82, 22.27, 21.00, 20.19, 19.59),
                _div2k("EDSR-baseline", tuple(f"edsr-baseline-x{k}" for k in FIXED), 34.55, 30.90, 28.94),
                _div2k(
                    "EDSR-baseline-MetaSR",
                    ("edsr-baseline-metasr",),
                    *(34.64, 30.93, 28.92, 26.61, 23.55, 22.03, 21.06, 20.37),
                ),
                _div2k("EDSR-baseline-LIIF", (PAPER,), *OURS.published["div2k"].values()),
                _div2k("RDN-MetaSR", ("rdn-metasr",), 35.00, 31.27, 29.25, 26.88, 23.73, 22.18, 21.17, 20.47),
                _div2k("RDN-LIIF", ("rdn-liif",), 34.99, 31.26, 29.27, 26.99, 23.89, 22.34, 21.31, 20.59),
            ),
        ),
        Table(
            "table2",
            "Table 2: benchmark sets",
            BENCHMARKS,
            "benchmark",
            TABLE2,
            (
                _sets(
                    "RDN",
                    tuple(f"rdn-x{k}" for k in FIXED),
                    *((38.24, 34.71, 32.47), (34.01, 30.57, 28.81), (32.34, 29.26, 27.72), (32.89, 28.80, 26.61)),
                ),
                _sets(
                    "RDN-MetaSR",
                    ("rdn-metasr",),
                    (38.22, 34.63, 32.38, 29.04, 26.96),
                    (33.98, 30.54, 28.78, 26.51, 24.97),
                    (32.33, 29.26, 27.71, 25.90, 24.83),
                    (32.92, 28.82, 26.55, 23.99, 22.59),
                ),
                _sets(
                    "RDN-LIIF",
                    ("rdn-liif",),
                    (38.17, 34.68, 32.50, 29.15, 27.14),
                    (33.97, 30.53, 28.80, 26.64, 25.15),
                    (32.32, 29.26, 27.74, 25.98, 24.91),
                    (32.87, 28.82, 26.68, 24.20, 22.79),
                ),
            ),
        ),
        Table(
            "table3",
            "Table 3: design choices of LIIF, DIV2K validation set",
            ("div2k",),
            "div2k",
            SCALES,
            (
                OURS,
                _div2k("LIIF (-c)", (f"{LIIF}-c",), 34.53, 30.92, 28.97, 26.73, 23.72, 22.19, 21.19, 20.51),
                _div2k("LIIF (-u)", (f"{LIIF}-u",), 34.64, 30.94, 28.98, 26.73, 23.69, 22.16, 21.17, 20.47),
                _div2k("LIIF (-e)", (f"{LIIF}-e",), 34.63, 30.95, 28.97, 26.72, 23.66, 22.13, 21.14, 20.45),
                _div2k("LIIF (-d)", (f"{LIIF}-d",), 34.65, 30.94, 28.98, 26.71, 23.64, 22.10, 21.12, 20.42),
            ),
        ),
        Table(
            "table4",
            "Table 4: training at one scale, DIV2K validation set",
            ("div2k",),
            "div2k",
            SCALES,
            (
                OURS,
                _div2k("LIIF (x2-only)", (f"{LIIF}-x2-only",), 34.71, 30.72, 28.77, 26.51, 23.54, 22.05, 21.09, 20.40),
                _div2k("LIIF (x3-only)", (f"{LIIF}-x3-only",), 34.32, 30.98, 28.99, 26.71, 23.68, 22.15, 21.17, 20.48),
                _div2k("LIIF (x4-only)", (f"{LIIF}-x4-only",), 34.08, 30.87, 29.00, 26.77, 23.74, 22.21, 21.21, 20.51),
            ),
        ),
        Table(
            "table5",
            "Table 5: size-varied ground truths, CelebA-HQ",
            ("celebahq",),
            "celebahq",
            (2.0, 8.0),
            (
                _faces("64-128", "upsampling", "Up-sampling modules", 34.78),
                _faces("64-128", "liif", "LIIF", 35.96),
                _faces("32-256", "upsampling", "Up-sampling modules", 27.56),
                _faces("32-256", "liif", "LIIF", 27.74),
            ),
        ),
        Table(
            "figure5",
            "Figure 5: x30 by bicubic, 1-SIREN, MetaSR and LIIF",
            (),
            "",
            (30.0,),
            (
                Line("Bicubic", (), {}),
                Line("1-SIREN", (), {}),
                Line("MetaSR", ("edsr-baseline-metasr",), {}),
                Line("LIIF", (PAPER,), {}),
            ),
        ),
        Table(
            "figure7",
            "Figure 7: cells at x30",
            (),
            "",
            (30.0,),
            (Line("LIIF", (PAPER,), {}, ("1/1", "1/2", "1/30")), Line("No cell", (f"{LIIF}-c",), {})),
        ),
    )
}
