"""Options shared by several commands: parsing of values, exclusions and shell completion."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from liif_cli.cli.settings import is_typed
from liif_cli.errors import UsageError

if TYPE_CHECKING:
    from liif_cli.rendering.sizes import Scale, Size, Target


DEFAULT_MODEL = "light"


def one_side(context: typer.Context, first: str, one: Any, second: str, other: Any) -> tuple[Any, Any]:
    """Two options of which one may be set. If only one is typed, it wins over a configured value of the other."""
    if one and other and is_typed(context, first) != is_typed(context, second):
        return (one, None) if is_typed(context, first) else (None, other)
    return one, other


def exclusive(context: typer.Context, first: str, one: bool, second: str, other: bool) -> tuple[bool, bool]:
    """Two switches that exclude each other. A typed one wins over a configured one. Raises `UsageError` if both are set."""
    one, other = one_side(context, first, one, second, other)
    if one and other:
        names = [f"--{name.replace('_', '-')}" for name in (first, second)]
        raise UsageError(f"{names[0]} and {names[1]} exclude each other")
    return bool(one), bool(other)


def parse_targets(
    scales: list[str], sizes: list[str], fit: str, gravity: str = "center", dpi: float | None = None
) -> "list[Target]":
    """The targets of `--scale` and `--size`, in this order. Raises `UsageError`."""
    from liif_cli.rendering.sizes import FITS, GRAVITY, Scale, parse_size

    kept, part = one_of("--fit", fit, FITS), one_of("--gravity", gravity, tuple(GRAVITY))
    targets: list[Target] = [Scale.parse(text) for text in scales]
    targets += [parse_size(text, kept, part, dpi) for text in sizes]
    if not targets:
        raise UsageError("no output size given", hint="use --scale 4, or --size 1920x1080")
    return targets


def parse_target(scale: str | None, size: str | None) -> "Scale | Size":
    """The target of `--scale` or `--size`, in pixels. Raises `UsageError` unless exactly one is given."""
    from liif_cli.rendering.sizes import Scale, Size

    if scale and size:
        raise UsageError("--scale and --size exclude each other")
    if size:
        return Size.parse(size)
    if not scale:
        raise UsageError("no output size given", hint="use --scale 4, or --size 1920x1080")
    return Scale.parse(scale)


def parse_scales(texts: list[str]) -> tuple[float, ...]:
    """`--scale 2,3 --scale 4` -> (2.0, 3.0, 4.0). Raises `UsageError` unless all are numbers from 1 to 1000."""
    parts = [part.strip().lower().strip("x×") for text in texts for part in text.split(",")]
    try:
        scales = [float(part) for part in parts]
    except ValueError:
        scales = [0.0]
    if not all(1 <= scale <= 1000 for scale in scales):
        raise UsageError(f"--scale {','.join(texts)!r} is not a list of scales", hint="use numbers from 1, as in 2,3,4")
    return tuple(dict.fromkeys(scales))


def one_of(option: str, value: str, choices: tuple[str, ...]) -> Any:
    """`value` if it is among `choices`. Raises `UsageError` otherwise."""
    if value not in choices:
        name = option.removeprefix("--").replace("-", "_")
        raise UsageError(f"{value!r} is not one of {', '.join(choices)}", argument=name)
    return value


def parse_strip(text: str | None) -> str:
    """Parse the value of `--strip` to "all", "location" or "none". Raises `UsageError`."""
    meant = {
        "1": "all",
        "true": "all",
        "yes": "all",
        "on": "all",
        "0": "none",
        "false": "none",
        "no": "none",
        "off": "none",
    }
    word = (text or "none").strip().lower()
    return str(one_of("--strip", meant.get(word, word), ("all", "location", "none")))


def without_effect(context: typer.Context, needed: Mapping[str, str]) -> list[str]:
    """A sentence for each typed option without effect because another is missing. needed: parameter -> the other one."""
    return [
        f"--{name.replace('_', '-')} has no effect without --{other.replace('_', '-')}"
        for name, other in needed.items()
        if is_typed(context, name) and not context.params.get(other)
    ]


def models(incomplete: str) -> list[str]:
    """Completion: names of the shipped models, and references to models in the Hub's cache."""
    from liif_cli.models.store import names

    return [name for name in names() if name.startswith(incomplete)]


def words(*choices: str) -> Callable[[str], list[str]]:
    """Completion of an option that takes one of `choices`."""
    return lambda incomplete: [word for word in choices if word.startswith(incomplete)]


def several_models(default: str) -> Any:
    """The option `--model` of a command that accepts several. default: the end of its help."""
    about = f"A shipped name, a file, or hf://owner/repo. Repeatable{default}"
    return typer.Option("--model", "-m", metavar="MODEL", help=about, autocompletion=models)


def most_pixels(what: str) -> Any:
    """The option `--max-pixels` of a server. what: the kind of image that it limits."""
    return typer.Option(metavar="N", min=65536, help=f"Maximum number of pixels of {what}.")


# Options of several commands.

DeviceOption = Annotated[
    str,
    typer.Option(
        metavar="DEVICE", help="auto, cpu, cuda, cuda:N or mps.", autocompletion=words("auto", "cpu", "cuda", "mps")
    ),
]
RegionOption = Annotated[
    str | None, typer.Option(metavar="X,Y,W,H", help="Render only this part, in pixels of the upright input.")
]
CellOption = Annotated[
    str,
    typer.Option(
        metavar="CELL",
        help="Cell size passed to the decoder: raw, clip (at least that of x4), or 1/k of an input pixel.",
    ),
]
SelfEnsembleOption = Annotated[
    bool, typer.Option("--self-ensemble", help="Average four rotations: better, and four times slower.")
]
OneJsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
HostOption = Annotated[str, typer.Option(metavar="HOST", help="Address to listen on; 0.0.0.0 accepts other machines.")]
PortOption = Annotated[int, typer.Option(metavar="N", min=0, max=65535, help="Port; 0 picks a free one.")]
CacheMemoryOption = Annotated[
    str | None,
    typer.Option(metavar="AMOUNT", help="Memory for images and tiles, e.g. 2GiB. Default: half of the free memory."),
]
