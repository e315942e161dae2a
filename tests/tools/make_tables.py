"""Regenerate the score tables of README.md and of the model's card with `liif eval`.

    python tests/tools/make_tables.py [DIR] [--precision fp32] [--keep FOLDER]

DIR holds Set5 and Set14 (`DIR/Set14/HR/*.png`); without it they come from the Hub. What stands between the markers
`<!-- scores -->` and `<!-- end -->` is replaced. On one CPU core with bf16 instructions it took eleven minutes, nearly
half of it for the baseline x4-lanczos at x2 and x3. (OMP_NUM_THREADS=1: where other work runs too, more threads only
wait for each other.) With --keep every finished part is kept in FOLDER, by the model's hash, and not measured again.
"""

import argparse
import hashlib
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "weights" / "edsr-baseline-liif.safetensors"
MARKED = re.compile(r"(<!-- scores -->\n).*?(<!-- end -->)", re.DOTALL)
PARTS = {  # what each protocol is asked
    "benchmark": (),
    "mmediting": ("--scale", "1,1.5,2,3,4,6,8,12,18,24,30", "--baseline", "bicubic"),
}


def measure(dataset: str, protocol: str, options: list[str], keep: Path | None) -> str:
    """What `liif eval` prints in Markdown, from `keep` where it is there."""
    command = [sys.executable, "-m", "liif_cli", "eval", "--dataset", dataset, "--protocol", protocol, "--markdown"]
    command += [*PARTS[protocol], "--model", MODEL.stem, *options]
    digest = hashlib.sha256(MODEL.read_bytes()).hexdigest()[:12]
    file = keep / f"{dataset}-{protocol}-{digest}.md" if keep else None
    if file and file.exists():
        return file.read_text(encoding="utf-8")
    text = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, encoding="utf-8").stdout.strip()
    if file:
        file.write_text(text, encoding="utf-8")
    return text


def insert(file: Path, text: str) -> None:
    """Put `text` between the markers of `file`. Exits with a message when they are not there once."""
    before = file.read_text(encoding="utf-8")
    after, count = MARKED.subn(lambda match: f"{match[1]}\n{text}\n\n{match[2]}", before)
    if count != 1:
        sys.exit(f"{file.name} has {count} pairs of markers, not one")
    file.write_text(after, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_dir", nargs="?", type=Path, metavar="DIR", help="where Set5 and Set14 lie")
    parser.add_argument("--precision", default="auto", help="as for liif eval; auto moves PSNR by less than 0.001 dB")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep finished parts there")
    chosen = parser.parse_args()
    if chosen.keep:
        chosen.keep.mkdir(parents=True, exist_ok=True)
    options = [
        "--precision",
        chosen.precision,
        *(["--data-dir", str(chosen.data_dir.resolve())] if chosen.data_dir else []),
    ]
    found = {
        protocol: "\n\n".join(measure(dataset, protocol, options, chosen.keep) for dataset in ("set5", "set14"))
        for protocol in PARTS
    }
    insert(ROOT / "README.md", found["benchmark"])
    insert(ROOT / "weights" / "README.md", "\n\n".join(found.values()))


if __name__ == "__main__":
    main()
