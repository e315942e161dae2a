"""Compares the speed of the exact LIIF decoder with a plain reference: `python tests/benchmarks/bench_render.py`.

The reference is equation 4 with feature unfolding as in the authors' code: each chunk of 30,000 queries unfolds the features
again, and each of the four corners looks up the code and runs the whole MLP, in fp32. Every entry runs in a separate process.
All entries are repeated several times in turn, because other programs can slow down any run, and medians are shown. The share
is that of the rate of a 4096^3 product in the decoder's dtype, which the same process measures before and after (4 x 197,376
multiply-adds per output pixel; those of the encoder are not counted). The rows of `light` show the time of that model, whose
output differs, compared with the same reference, and its decoder's nanoseconds per output pixel and thread.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).parents[2]))
from liif_cli.coords import Axis
from liif_cli.machine.devices import DTYPES, choose_precision, exact_float32
from liif_cli.machine.precision import fast_bf16_cpu, fast_fp16_cpu
from liif_cli.models.model import SRModel
from liif_cli.models.store import load_model

EXAMPLE = Path(__file__).parents[2] / "docs" / "chelsea.png"
MULTIPLY_ADDS = 4 * 197_376
CHUNK = 30_000
LIGHT = "light"


def coords(height: int, width: int, device: torch.device) -> Tensor:
    """(height, width, 2): the pixel centres in [-1, 1]."""
    y, x = ((2 * torch.arange(n, device=device) + 1) / n - 1 for n in (height, width))
    return torch.stack(torch.meshgrid(y, x, indexing="ij"), -1)


def reference_query(features: Tensor, mlp: Callable[[Tensor], Tensor], coord: Tensor, cell: Tensor) -> Tensor:
    """Colours (1, Q, 3) at coords (1, Q, 2) with cells (1, Q, 2), both in [-1, 1] units."""
    _, channels, height, width = features.shape
    size = torch.tensor([height, width], device=coord.device)
    unfolded = F.unfold(features, 3, padding=1).view(1, channels * 9, height, width)
    centres = coords(height, width, coord.device).permute(2, 0, 1)[None]
    colours, areas = [], []
    for dy in (-1, 1):
        for dx in (-1, 1):
            shifted = coord + torch.tensor([dy, dx], device=coord.device) / size + 1e-6
            at = shifted.clamp(-1 + 1e-6, 1 - 1e-6).flip(-1).unsqueeze(1)
            code, centre = (
                F.grid_sample(part, at, mode="nearest", align_corners=False)[:, :, 0].transpose(1, 2)
                for part in (unfolded, centres)
            )
            relative = (coord - centre) * size
            colours.append(mlp(torch.cat([code, relative, cell * size], -1)))
            areas.append(relative.prod(-1).abs() + 1e-9)
    total = torch.stack(areas).sum(0)
    return sum(c * (a / total).unsqueeze(-1) for c, a in zip(colours, reversed(areas), strict=True))  # type: ignore[return-value]


def reference(model: SRModel, image: Tensor, size: tuple[int, int], query: Callable[..., Tensor]) -> Tensor:
    """(H, W, 3), rendered like the authors' code."""
    features = model.encoder(model.normalise(image))
    coord = coords(*size, image.device).view(1, -1, 2)
    cell = torch.tensor([2 / size[0], 2 / size[1]], device=image.device).expand_as(coord)
    parts = [
        query(features, model.decoder.imnet, coord[:, i : i + CHUNK], cell[:, i : i + CHUNK])
        for i in range(0, coord.shape[1], CHUNK)
    ]
    return model.denormalise(torch.cat(parts, 1)).view(*size, 3)


def ours(model: SRModel, image: Tensor, size: tuple[int, int], dtype: torch.dtype) -> Tensor:
    """(H, W, 3), rendered by `liif`."""
    rows, columns = (Axis.whole(n, m) for n, m in zip(image.shape[2:], size, strict=True))
    return model.render(model.bind(model.encode(image, dtype=dtype), rows, columns), rows, columns)[0]


def seconds(work: Callable[[], Any], repeats: int, device: torch.device) -> float:
    """The best time of `repeats` runs after a warm-up."""
    best = float("inf")
    for run in range(repeats + 1):
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        if run:
            best = min(best, time.perf_counter() - start)
    return best


def matrix_rate(dtype: torch.dtype, device: torch.device, n: int = 4096) -> float:
    """Operations per second of an n^3 product."""
    a = torch.randn(n, n, device=device).to(dtype)
    return 2 * n**3 / seconds(lambda: a @ a, 2, device)


def memory(device: torch.device) -> int:
    """The peak of this process's memory in bytes so far, on the given device."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    try:
        import resource
    except ImportError:
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


@torch.inference_mode()
def entry(name: str, options: argparse.Namespace, out: Path) -> dict[str, Any]:
    """Time one entry, and save its output to `out`."""
    device = torch.device(options.device)
    light = name.startswith("light")
    model = load_model(LIGHT if light else "edsr-baseline-liif", device=device)
    name = name.removeprefix("light ")
    image = sample(options.width, options.height).to(device)
    size = (options.height * options.scale, options.width * options.scale)
    auto = choose_precision("auto", device, 8)
    dtype = (
        DTYPES[{"auto": auto, "auto decoder": auto}.get(name, name.split()[0])] if "ref" not in name else torch.float32
    )
    work: Callable[[], Tensor] = lambda: ours(model, image, size, dtype)  # noqa: E731
    if "reference" in name:
        query = torch.compile(reference_query) if "compiled" in name else reference_query
        work = lambda: reference(model, image, size, query)  # noqa: E731
    elif "decoder" in name:
        field = model.encode(image, dtype=dtype)
        rows, columns = (Axis.whole(n, m) for n, m in zip(image.shape[2:], size, strict=True))
        work = lambda: model.render(field, rows, columns)[0]  # noqa: E731
    with exact_float32(device):
        before = memory(device)
        np.save(out, work().cpu().numpy())
        peak = memory(device) - before
        first = matrix_rate(dtype, device)
        time_taken = seconds(work, 1 if "reference" in name else 3 if dtype == torch.float32 else 10, device)
        rate = max(first, matrix_rate(dtype, device))
    operations = 2 * MULTIPLY_ADDS * size[0] * size[1]
    kind = next(key for key, value in DTYPES.items() if value == dtype)
    return {"seconds": time_taken, "share": operations / time_taken / rate, "rate": rate, "peak": peak, "dtype": kind}


def sample(width: int, height: int) -> Tensor:
    """The example image at a size, (1, 3, height, width) in [0, 1]."""
    from PIL import Image

    with Image.open(EXAMPLE) as example:
        pixels = np.array(example.convert("RGB").resize((width, height), Image.Resampling.BICUBIC))
    return torch.from_numpy(pixels).permute(2, 0, 1).unsqueeze(0) / 255


def table(names: list[str], results: dict[str, dict[str, Any]], outputs: dict[str, Any]) -> None:
    base = results[names[0]]["seconds"]
    fp32 = outputs["fp32"]
    level = np.rint(fp32.clip(0, 1) * 255)
    print(
        "| entry | dtype | s | ratio | share of 4096^3 | at Gop/s | peak MiB | largest difference | 8 bit: equal, levels |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for name in names:
        r, out = results[name], outputs[name]
        apart = np.abs(np.rint(out.clip(0, 1) * 255) - level)
        light = name.startswith("light")
        share = "" if light or "reference" in name else f"{r['share']:.0%}"
        if light and "decoder" in name:
            share = f"{r['seconds'] * torch.get_num_threads() / out[..., 0].size * 1e9:.0f} ns"
        equal = "" if light else f"{np.abs(out - fp32).max():.1e} | {np.mean(apart == 0):.2%}, {apart.max():.0f}"
        print(
            f"| {name} | {r['dtype']} | {r['seconds']:.3f} | {base / r['seconds']:.1f}x | {share} | {r['rate'] / 1e9:.0f} "
            f"| {r['peak'] / 2**20:.0f} | {equal or ' | '} |"
        )


def median(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The median of each number over several runs of one entry."""
    return {
        key: value if isinstance(value, str) else np.median([run[key] for run in runs])
        for key, value in runs[0].items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--width", type=int, help="of the input; default 96, on a GPU 1920")
    parser.add_argument("--height", type=int, help="default 96, on a GPU 1080")
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5, help="of all entries, whose medians are shown; default 5")
    parser.add_argument("--entry", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    gpu = options.device.startswith("cuda")
    options.width, options.height = options.width or (1920 if gpu else 96), options.height or (1080 if gpu else 96)
    if options.entry:
        print(json.dumps(entry(options.entry, options, options.out)))
        return
    native = {"fp16": gpu or fast_fp16_cpu(), "bf16": gpu or fast_bf16_cpu()}  # emulated types would take minutes
    decoders = [f"{name} decoder" for name in native if native[name]]
    names = ["reference", *(["compiled reference"] if gpu else []), "fp32", "auto", "fp32 decoder", *decoders]
    names += ["light fp32", "light auto", "light fp32 decoder"]
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    outputs = {}
    with TemporaryDirectory() as folder:
        for name in names * options.rounds:
            out = Path(folder) / "out.npy"
            size = ["--width", str(options.width), "--height", str(options.height), "--scale", str(options.scale)]
            command = [sys.executable, __file__, "--device", options.device, *size, "--entry", name, "--out", str(out)]
            answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            runs[name].append(json.loads(answer.splitlines()[-1]))
            outputs[name] = np.load(out)
    results = {name: median(each) for name, each in runs.items()}
    where = torch.cuda.get_device_name() if gpu else f"{torch.get_num_threads()} threads"
    size = f"{options.width}x{options.height} -> {options.width * options.scale}x{options.height * options.scale}"
    print(f"{size} on {where}, torch {torch.__version__}. Differences are from liif in fp32.\n")
    table(names, results, outputs)


if __name__ == "__main__":
    main()
