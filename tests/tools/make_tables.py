"""Regenerate the score tables of README.md, docs/evaluation.md and the model card with `liif eval`.

    python tests/tools/make_tables.py [DIR] [--model NAME ...] [--precision fp32] [--keep FOLDER]

DIR holds Set5 and Set14 (`DIR/Set14/HR/*.png`); without it they are downloaded from the Hub. The models (default: all in
`weights/`) are scored one by one, the default model first and with the baselines. The text between the markers
`<!-- scores -->` and `<!-- end -->` is replaced: in the README by a summary with one row per method, elsewhere by the tables
of `liif eval --markdown`. On one CPU core with bf16 instructions, the default model takes eleven minutes, nearly half of it
for the baseline x4-lanczos at x2 and x3. On a busy machine, set OMP_NUM_THREADS=1. With --keep, finished parts are stored in
FOLDER, by the hash of the model, and reused.
"""

import argparse
import hashlib
import json
import math
import re
import subprocess
import sys
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from liif_cli.evaluation.scores import Row, Score, number, to_markdown
from liif_cli.models.store import DEFAULT

ROOT = Path(__file__).parents[2]
MODELS = [
    file.stem
    for file in sorted((ROOT / "weights").glob("*.safetensors"), key=lambda file: (file.stem != DEFAULT, file.stem))
]
MARKED = re.compile(r"(<!-- scores -->\n).*?(<!-- end -->)", re.DOTALL)
PARTS = {  # the options for each protocol
    "benchmark": (),
    "mmediting": ("--scale", "1,1.5,2,3,4,6,8,12,18,24,30", "--baseline", "bicubic"),
}


def measured(models: Sequence[str], dataset: str, protocol: str, options: list[str], keep: Path | None) -> list[Row]:
    """The rows of all models, and of the baselines with the first one."""
    return merged([measure(model, dataset, protocol, options, keep, alone=model != models[0]) for model in models])


def merged(parts: Sequence[Sequence[Row]]) -> list[Row]:
    """The rows of several evaluations of one set, by scale and then in the given order."""
    return sorted((row for part in parts for row in part), key=lambda row: row.scale)


def measure(
    model: str, dataset: str, protocol: str, options: list[str], keep: Path | None, *, alone: bool = False
) -> list[Row]:
    """The rows of one evaluation, with the baselines or `alone`, from `keep` if they are there."""
    command = [sys.executable, "-m", "liif_cli", "eval", "--dataset", dataset, "--protocol", protocol]
    command += [
        "--json",
        "--per-image",
        "--model",
        model,
        *PARTS[protocol],
        *options,
        *(["--baseline", "none"] * alone),
    ]
    digest = hashlib.sha256((ROOT / "weights" / f"{model}.safetensors").read_bytes()).hexdigest()[:12]
    file = keep / f"{dataset}-{protocol}-{digest}{'-alone' * alone}.json" if keep else None
    if file and file.exists():
        return rows_of(file.read_text(encoding="utf-8"))
    text = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, encoding="utf-8").stdout
    if file:
        file.write_text(text, encoding="utf-8")
    return rows_of(text)


def rows_of(text: str) -> list[Row]:
    """The rows that `liif eval --json --per-image` printed. In JSON an infinite PSNR is null."""
    rows = []
    for entry in json.loads(text)["rows"]:
        scores = tuple(
            Score(each["image"], math.inf if each["psnr"] is None else each["psnr"], each["ssim"], each["seconds"])
            for each in entry["per_image"]
        )
        names = (entry["dataset"], float(entry["scale"]), entry["method"], entry["protocol"], entry["standard"])
        rows.append(Row(*names, scores))
    return rows


def summary(rows: Sequence[Row]) -> str:
    """For each set a table of PSNR in dB: one row per method, one column per scale."""
    tables = []
    for dataset, group in groupby(rows, key=lambda row: row.dataset):
        found = {(row.method, row.scale): number(row.psnr, 2) for row in group}
        methods, scales = (list(dict.fromkeys(key[place] for key in found)) for place in (0, 1))
        lines = [[dataset.capitalize(), *(f"×{scale:g}" for scale in scales)], ["---", *["--:"] * len(scales)]]
        lines += [[str(method), *(found[method, scale] for scale in scales)] for method in methods]
        tables.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
    return "\n\n".join(tables)


def placed(text: str, tables: str) -> str:
    """`text` with `tables` between its markers. Raises ValueError unless there is exactly one pair of them."""
    after, count = MARKED.subn(lambda match: f"{match[1]}\n{tables}\n\n{match[2]}", text)
    if count != 1:
        raise ValueError(f"{count} pairs of markers, not one")
    return after


def insert(file: Path, tables: str) -> None:
    """Put `tables` between the markers of `file`."""
    file.write_text(placed(file.read_text(encoding="utf-8"), tables), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_dir", nargs="?", type=Path, metavar="DIR", help="the folder of Set5 and Set14")
    parser.add_argument("--model", action="append", metavar="NAME", choices=MODELS, help="default: all shipped models")
    parser.add_argument("--precision", default="auto", help="as for liif eval; auto moves PSNR by less than 0.001 dB")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="store finished parts there")
    chosen = parser.parse_args()
    if chosen.keep:
        chosen.keep.mkdir(parents=True, exist_ok=True)
    options = ["--precision", chosen.precision]
    options += ["--data-dir", str(chosen.data_dir.resolve())] if chosen.data_dir else []
    models = sorted(chosen.model or MODELS, key=MODELS.index)
    found = {
        protocol: [
            row for dataset in ("set5", "set14") for row in measured(models, dataset, protocol, options, chosen.keep)
        ]
        for protocol in PARTS
    }
    insert(ROOT / "README.md", summary(found["benchmark"]))
    insert(ROOT / "docs" / "evaluation.md", to_markdown(found["benchmark"]))
    insert(ROOT / "weights" / "README.md", "\n\n".join(map(to_markdown, found.values())))


if __name__ == "__main__":
    main()
