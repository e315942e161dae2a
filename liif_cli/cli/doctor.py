"""Facts for a bug report: versions, devices and why one was chosen, memory, formats, models, settings."""

import json
import os
import platform
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from liif_cli import __version__
from liif_cli.cli import settings
from liif_cli.cli.streams import result


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="auto|local|ADDRESS", help="Also describe a Ray cluster: nodes, memory, versions, actors that fit."
        ),
    ] = None,
) -> None:
    """Print the facts for a bug report, and why a GPU is or isn't used.

    No network is used and no token is printed. The home folder is written as ~.

    Examples:

      liif doctor

      liif doctor --json

      liif doctor --ray auto
    """
    found = examine()
    if ray is not None:
        from liif_cli.upscaling.cluster_facts import examine as examine_cluster

        found |= examine_cluster(ray)
    if as_json:
        result(json.dumps(found))
        return
    for section, facts in found.items():
        result(f"{section}:")
        for name, fact in facts.items():
            result(f"  {name}: {fact}")


Facts = dict[str, str]
LIBRARIES = ("torch", "numpy", "pyvips", "pillow", "safetensors", "huggingface-hub", "typer", "rich", "pydantic")
HUB_VARIABLES = ("HF_HOME", "HF_HUB_CACHE", "HF_ENDPOINT", "HF_HUB_OFFLINE")
DEVICE_VARIABLES = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "OMP_NUM_THREADS")


def examine() -> dict[str, Facts]:
    """Sections of facts, each a name with a sentence or a value. Loads torch, uses no network, raises nothing."""
    sections = {
        "liif": _liif,
        "device": devices,
        "memory": _memory,
        "libraries": _libraries,
        "formats": _formats,
        "models": _models,
        "settings": _settings,
    }
    found = {}
    for name, facts in sections.items():
        try:
            found[name] = {_without_home(key): _without_home(fact) for key, fact in facts().items()}
        except Exception as error:  # a broken installation must be reported, too
            found[name] = {"broken": f"{type(error).__name__}: {_without_home(str(error))}"}
    return found


def _without_home(text: str) -> str:
    home = str(Path.home())
    return text.replace(home, "~") if len(home) > 1 else text


def _liif() -> Facts:
    return {
        "version": __version__,
        "python": f"{platform.python_version()} ({platform.python_implementation()}) at {sys.executable}",
        "system": platform.platform(),
        "processor": _processor(),
        "encodings": f"stdout {sys.stdout.encoding}, files {sys.getfilesystemencoding()}",
    }


def _processor() -> str:
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    except OSError:
        pass
    return f"{name}, {os.cpu_count()} cores"


def devices() -> Facts:
    """The device and the precisions that `auto` chooses, and why."""
    import torch

    from liif_cli.machine.devices import choose_device, choose_precision

    chosen = choose_device("auto")
    eight, sixteen = (choose_precision("auto", chosen, bits) for bits in (8, 16))
    facts = {
        "auto": str(chosen),
        "cuda": cuda_reason(torch),
        "mps": mps_reason(torch),
        "precision": f"auto is {eight} for outputs of 8 bits, {sixteen} for 16",
        "threads": str(torch.get_num_threads()),
    }
    return facts | {name: os.environ[name] for name in DEVICE_VARIABLES if name in os.environ}


def cuda_reason(torch: Any) -> str:
    """Why CUDA (or ROCm, which torch also calls cuda) is or is not used."""
    build = torch.version.cuda or torch.version.hip
    if build is None:
        return "not used: this PyTorch is built without CUDA; see pytorch.org for a build with it"
    kind = "CUDA" if torch.version.cuda else "ROCm"
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        return f"used: {kind} {build}, {', '.join(names)}"
    try:
        torch.cuda.init()
        reason = "no device was found"
    except (RuntimeError, AssertionError) as error:
        reason = " ".join(str(error).split())
    return f"not used: PyTorch is built for {kind} {build}, but {reason}"


def mps_reason(torch: Any) -> str:
    """Why Apple's GPU is or is not used."""
    if torch.backends.mps.is_available():
        return "used unless CUDA is"
    built = torch.backends.mps.is_built()
    return "not used: it needs macOS 14 and Apple silicon" if built else "not used: this PyTorch is built without MPS"


def _memory() -> Facts:
    import psutil

    from liif_cli.machine.memory import available, format_bytes

    return {"installed": format_bytes(psutil.virtual_memory().total), "available now": format_bytes(available())}


def _libraries() -> Facts:
    return {name: _version(name) for name in LIBRARIES} | {"libvips": _libvips()}


def _version(name: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _libvips() -> str:
    import pyvips

    return ".".join(str(pyvips.version(part)) for part in range(3))


def _formats() -> Facts:
    from PIL import features

    from liif_cli.images.formats.table import ALL

    facts = {form.name: f"read {form.reads()}, write {form.writes() if form.save else 'no'}" for form in ALL}
    return facts | {"labels in compare": "scalable" if features.check("freetype2") else "bitmap: Pillow lacks FreeType"}


def _models() -> Facts:
    from liif_cli.models.store import entries

    return {entry.name: f"{entry.where}, {entry.path}" for entry in entries()} or {
        "none": "there is no model on this machine"
    }


def _settings() -> Facts:
    facts = {str(file): "exists" if file.is_file() else "does not exist" for file in settings.files()}
    facts |= {name: value for name, value in sorted(os.environ.items()) if name.startswith("LIIF_")}
    facts |= {name: os.environ[name] for name in HUB_VARIABLES if name in os.environ}
    return facts | {"HF_TOKEN": "set" if os.environ.get("HF_TOKEN") else "not set"}
