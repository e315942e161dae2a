"""The campaign by hand: `python -m tests.robustness --count 30000 [--first SEED] [--keep FOLDER]`, or `--corpus FOLDER`."""

import argparse
import resource
import sys
import time
from collections import Counter
from pathlib import Path

from liif_cli.errors import LiifError, LimitError, OutOfMemory
from liif_cli.images import read

from .mutate import mutated, seeds

SLOW = 20
"""Seconds of processor time that no file of this size may take."""
LARGE = 4_000_000
"""Pixels that are still decoded: a header may claim more."""


def judged(data: bytes) -> str:
    """`made`, or `refused: ` and the error's class. Raises what is none of liif's errors."""
    try:
        header = read.probe(data)
        if header.width * header.height * header.frames > LARGE:
            return "made: header alone"
        picture = read.read(data)
        picture.metadata.for_size(2 * picture.width, 2 * picture.height)
        return "made"
    except (LimitError, OutOfMemory) as error:
        return f"refused: {type(error).__name__}"
    except LiifError as error:
        return f"refused: {type(error).__name__}"


def minimised(data: bytes, kind: type[Exception]) -> bytes:
    """The shortest start of the file that still raises `kind`, by halving."""
    low, high = 0, len(data)
    while low + 1 < high:
        middle = (low + high) // 2
        try:
            judged(data[:middle])
        except kind:
            high = middle
            continue
        low = middle
    return data[:high]


def campaign(count: int, first: int, keep: Path | None) -> Counter[str]:
    """Judge the mutations `first` to `first + count`; strays and slow files are printed, and kept where `keep` says."""
    files, found = seeds(), Counter[str]()
    for seed in range(first, first + count):
        what, data = mutated(seed, files)
        start = time.process_time()
        try:
            found[judged(data)] += 1
        except Exception as error:
            found[f"stray: {type(error).__name__}"] += 1
            print(f"seed {seed}: {what}: {type(error).__name__}: {error}")
            if keep:
                keep.mkdir(parents=True, exist_ok=True)
                (keep / f"{seed}-{type(error).__name__}").write_bytes(minimised(data, type(error)))
        if time.process_time() - start > SLOW:
            found["slow"] += 1
            print(f"seed {seed}: {what}: {time.process_time() - start:.0f} s")
    return found


def corpus(folder: Path) -> Counter[str]:
    """Judge every file of a folder with Pillow as a second reader: sizes that differ, and what only one of them reads."""
    from PIL import Image, ImageOps

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
    return found


def main() -> int:
    """0 if nothing strayed and nothing was slow."""
    parser = argparse.ArgumentParser(prog="python -m tests.robustness", description=__doc__)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--corpus", type=Path)
    given = parser.parse_args()
    found = corpus(given.corpus) if given.corpus else campaign(given.count, given.first, given.keep)
    for what, count in found.most_common():
        print(f"{count:7,} {what}")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024:,} MiB")
    return int(any(what.startswith(("stray", "slow")) for what in found))


if __name__ == "__main__":
    sys.exit(main())
