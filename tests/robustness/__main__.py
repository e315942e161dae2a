"""By hand: `python -m tests.robustness KIND --count 10000 [--first SEED] [--keep FOLDER]`, `faults --count 20`, or `--corpus
FOLDER`."""

import argparse
import sys
from collections import Counter
from importlib import import_module
from pathlib import Path

from .campaign import Kind, campaign, minimised

KINDS = {
    "images": "images.IMAGES",
    "formats": "images.MORE",
    "checkpoints": "checkpoints.CHECKPOINTS",
    "configs": "texts.CONFIGS",
    "archives": "texts.ARCHIVES",
    "runs": "texts.RUNS",
}
"""By the name of the command line: module and object, as one needs no torch where the other does."""


def kind_of(name: str) -> Kind:
    """The kind of files of that name."""
    module, _, what = KINDS[name].partition(".")
    found: Kind = getattr(import_module(f".{module}", __package__), what)
    return found


def mutated_files(name: str, count: int, first: int, keep: Path | None) -> int:
    """Run a campaign and print what it found; strays are cut short and kept where `keep` says. 0 if there was none."""
    kind = kind_of(name)
    outcome = campaign(kind, count, first, lambda line: print(line, flush=True))
    for verdict, number in outcome.verdicts.most_common():
        print(f"{number:7,} {verdict}")
    print(f"slowest: {outcome.slowest[0]:.1f} s of processor time, seed {outcome.slowest[1]}")
    print(f"largest: {outcome.largest[0]:,} MiB more at its peak, seed {outcome.largest[1]}")
    files = kind.files() if outcome.strays and keep else []
    for seed, what in outcome.strays.items() if keep else ():
        assert keep is not None
        keep.mkdir(parents=True, exist_ok=True)
        data = kind.mutated(seed, files)[1]
        ends = what.startswith(("it does not end", "the process ended"))  # not to be tried in this process
        (keep / f"{name}-{seed}").write_bytes(data if ends else minimised(kind, data))
    return int(bool(outcome.strays))


def corpus(folder: Path) -> int:
    """Judge every file of a folder with Pillow as a second reader: sizes that differ, and what only one of them reads."""
    from PIL import Image, ImageOps

    from liif_cli.errors import LiifError
    from liif_cli.images import read

    found = Counter[str]()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        try:
            with Image.open(path) as image:
                other = ImageOps.exif_transpose(image).size
        except Exception:  # a second opinion may fail in any way
            other = None
        try:
            header = read.probe(path)
            own = header.width, header.height
        except LiifError:
            own = None
        verdict = (
            "same" if own == other else "only Pillow" if own is None else "only liif" if other is None else "differ"
        )
        found[verdict] += 1
        if verdict in ("only Pillow", "differ"):
            print(f"{verdict}: {path}")
    for verdict, number in found.most_common():
        print(f"{number:7,} {verdict}")
    return 0


def main() -> int:
    """0 if nothing strayed and nothing was slow."""
    parser = argparse.ArgumentParser(prog="python -m tests.robustness", description=__doc__)
    parser.add_argument("kind", nargs="?", choices=[*KINDS, "faults"], default="images")
    parser.add_argument("--count", type=int, help="files (300), or rounds of the faults with chance in them (5)")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--only", help="of the faults, the scripts of this name")
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--corpus", type=Path)
    given = parser.parse_args()
    if given.corpus:
        return corpus(given.corpus)
    if given.kind == "faults":
        from .faults import run

        return int(bool(run(given.count or 5, given.first, given.only, lambda line: print(line, flush=True))))
    return mutated_files(given.kind, given.count or 300, given.first, given.keep)


if __name__ == "__main__":
    sys.exit(main())
