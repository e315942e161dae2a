"""Regenerate the score tables of README.md and of the model's card with `liif eval`.

    python tests/make_tables.py DIR [--precision fp32]

DIR holds Set5 and Set14 (`DIR/Set14/HR/*.png`); without it they come from the Hub. What stands between the markers
`<!-- scores -->` and `<!-- end -->` is replaced. On two free CPU cores with bf16 instructions it takes about a quarter
of an hour, of which the baseline x4-lanczos is nearly half.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SETS = ("--dataset", "set5", "--dataset", "set14")
MARKED = re.compile(r"(<!-- scores -->\n).*?(<!-- end -->)", re.DOTALL)


def measure(*options: str) -> str:
    """What `liif eval` prints in Markdown."""
    command = [sys.executable, "-m", "liif_cli", "eval", *SETS, "--markdown", *options]
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, encoding="utf-8").stdout.strip()


def insert(file: Path, text: str) -> None:
    """Put `text` between the markers of `file`. Exits with a message when they are not there once."""
    before = file.read_text(encoding="utf-8")
    after, count = MARKED.subn(lambda match: f"{match[1]}\n{text}\n\n{match[2]}", before)
    if count != 1:
        sys.exit(f"{file.name} has {count} pairs of markers, not one")
    file.write_text(after, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_dir", nargs="?", metavar="DIR", help="where Set5 and Set14 lie; default: the Hub")
    parser.add_argument("--precision", default="auto", help="as for liif eval; auto moves PSNR by less than 0.001 dB")
    options = parser.parse_args()
    shared = ["--precision", options.precision, *(["--data-dir", options.data_dir] if options.data_dir else [])]
    mmediting = measure(*shared, "--protocol", "mmediting", "--scale", "2,3,4", "--baseline", "bicubic")
    benchmark = measure(*shared)
    insert(ROOT / "README.md", benchmark)
    insert(ROOT / "weights" / "README.md", f"{benchmark}\n\n{mmediting}")


if __name__ == "__main__":
    main()
