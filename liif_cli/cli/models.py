"""`liif models`: lists, shows, verifies, converts, downloads, publishes and exports models."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from liif_cli.cli import options
from liif_cli.cli.commands import Command, Group
from liif_cli.cli.explanations import noted
from liif_cli.cli.streams import one_line, result, say
from liif_cli.errors import CheckpointError, UsageError

if TYPE_CHECKING:
    from liif_cli.models.store import Entry

models = typer.Typer(name="models", cls=Group, rich_markup_mode=None)

Json = Annotated[bool, typer.Option("--json", help="Print JSON: one object per model.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")]
Reference = Annotated[
    str,
    typer.Argument(
        metavar="NAME|FILE|REPO",
        help="A shipped or pulled name, a file, or hf://owner/repo[@revision][/path].",
        autocompletion=options.models,
    ),
]


@models.callback(invoke_without_command=True)
def group(context: typer.Context, as_json: Json = False) -> None:
    """List models, and download, convert, verify, publish and export their checkpoints.

    Without a command, it lists the models.

    Examples:

      liif models

      liif models show edsr-baseline-liif

      liif models convert edsr-baseline-liif.pth -o authors.safetensors
    """
    if context.invoked_subcommand is None:
        list_(as_json)
    elif as_json:
        raise UsageError("--json goes after the command", hint=f"liif models {context.invoked_subcommand} --json")


@models.command("list", cls=Command)
def list_(as_json: Json = False) -> None:
    """List the models that are shipped with liif, were pulled, are in the Hub's cache, or can be pulled.

    Any other model on the Hub is downloaded when it is first used: --model hf://owner/repo.

    Examples:

      liif models list

      liif models list --json
    """
    from liif_cli.models.store import entries

    found = entries()
    if as_json:
        for entry in found:
            result(json.dumps(entry.as_dict()))
        return
    for row in _aligned([("NAME", "WHERE", "SIZE", "PARAMETERS", "LICENCE", "PSNR"), *map(_row, found)]):
        result(row)


def _row(entry: "Entry") -> tuple[str, ...]:
    from liif_cli.machine.memory import format_bytes

    size = format_bytes(entry.bytes) if entry.bytes is not None else "?"
    name, licence = one_line(entry.name), one_line(entry.licence)  # anyone's, in the Hub's cache
    return name, entry.where, size, f"{entry.parameters:,}", licence, _scores(entry.scores)


def _scores(scores: Mapping[str, Mapping[str, float]]) -> str:
    """The first set's scores up to x4: `mmediting Set5 x2 35.71, x3 32.38, x4 30.27`."""
    what, values = next(iter(scores.items()), ("", {}))
    shown = ", ".join(f"x{scale} {psnr:.2f}" for scale, psnr in values.items() if float(scale) <= 4)
    return f"{what} {shown}" if shown else ""


def _aligned(rows: list[tuple[str, ...]], right: tuple[int, ...] = (2, 3)) -> Iterable[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = (c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        yield "  ".join(cells).rstrip()


@models.command(cls=Command)
def show(reference: Reference, as_json: Json = False) -> None:
    """Show a model's config, its licence and what that means for outputs, its scores, hash and provenance.

    No tensor is loaded. A model from the Hub is downloaded if it is not cached.

    Examples:

      liif models show edsr-baseline-liif

      liif models show hf://owner/repo@v1.0 --json
    """
    from liif_cli.models.describe import describe

    found = describe(reference)
    if as_json:
        result(json.dumps(found))
        return
    for line in _lines(found):
        result(line)


def _lines(value: Mapping[str, Any], indent: str = "") -> Iterable[str]:
    """`key: value`; the lines of a nested mapping are indented under its key."""
    for key, each in value.items():
        if isinstance(each, Mapping):
            yield f"{indent}{key}:"
            yield from _lines(each, f"{indent}  ")
        elif each is not None:
            yield f"{indent}{key}: {each if isinstance(each, str) else json.dumps(each)}"


@models.command(cls=Command)
def path(reference: Reference, as_json: Json = False) -> None:
    """Print the path of a model's file. A model from the Hub is downloaded if it is not cached.

    Examples:

      liif models path edsr-baseline-liif

      liif models path hf://owner/repo
    """
    from liif_cli.models.store import find

    found = find(reference)
    as_object = {"name": found.name, "path": str(found.path), "revision": found.revision}
    result(json.dumps(as_object) if as_json else str(found.path))


@models.command(cls=Command)
def verify(
    references: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME|FILE|REPO]",
            help="Names, files, or references to the Hub. Default: every model on this machine.",
            autocompletion=options.models,
        ),
    ] = None,
    sha256: Annotated[
        str | None, typer.Option(metavar="HEX", help="The file's expected SHA-256, or its beginning.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Read models completely: header, config, every tensor, and the hash if one is on record.

    Examples:

      liif models verify

      liif models verify run/edsr-baseline-liif.safetensors --sha256 0f3a
    """
    from liif_cli.models import describe

    if sha256 is not None and len(references or ()) != 1:
        raise UsageError("--sha256 needs exactly one model", hint="name the model")
    found = [describe.verify(each, sha256) for each in references] if references else describe.verify_all()
    for each in found:
        result(
            json.dumps(each.as_dict())
            if as_json
            else f"{each.name}: {each.problem or 'ok'}  {each.sha256 or ''}".rstrip()
        )
    if broken := [each.name for each in found if each.problem]:
        raise CheckpointError(f"{len(broken)} of {len(found)} models cannot be used: {', '.join(broken)}")


@models.command(cls=Command)
def convert(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="Another project's checkpoint, or hf://owner/repo/path of one.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="The checkpoint to write. Default: {stem}.safetensors next to FILE."
        ),
    ] = None,
    licence: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Licence of the weights. Default: the published one of a known file."),
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Convert a checkpoint of the LIIF authors, MMEditing or the EDSR release, or of your own training with their code.

    Nothing in the file is executed: a pickle that contains more than tensors and plain values is refused, and so is an
    unknown layout. Published files are recognised by their hash.

    Examples:

      liif models convert edsr-baseline-liif.pth -o authors.safetensors

      liif models convert epoch-last.pth -o mine.safetensors --licence CC0-1.0
    """
    from liif_cli.models.convert import convert as convert_file
    from liif_cli.models.convert import default_output
    from liif_cli.models.store import fetch_reference

    source = fetch_reference(file).path if file.startswith("hf://") else Path(file)
    made = convert_file(source, output or default_output(file), licence=licence, overwrite=overwrite)
    if as_json:
        result(json.dumps(made.as_dict()))
        return
    for note in made.notes():
        say(f"Note: {noted(note)}")
    result(str(made.path))


@models.command(cls=Command)
def pull(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME|REPO", help="A published model that liif models lists, or hf://owner/repo[@revision]."
        ),
    ],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Download it again if it exists.")] = False,
    as_json: Json = False,
) -> None:
    """Download a published model, check its hash, convert it and keep it under its name.

    Its licence is shown before the download. An interrupted download is resumed by the next call. A model on the Hub is
    downloaded into the Hub's cache.

    Examples:

      liif models pull mmediting-edsr-liif

      liif models pull hf://owner/repo
    """
    found = _pull_repository(name) if name.startswith("hf://") else _pull_known(name, overwrite)
    result(json.dumps(found) if as_json else found["path"])


def _pull_known(name: str, overwrite: bool) -> dict[str, Any]:
    from liif_cli.cli.progress import download_bar
    from liif_cli.models.pull import find_known
    from liif_cli.models.pull import pull as pull_model

    known = find_known(name)
    say(f"Note: {name} is from {known.origin}; licence: {known.terms}")
    with download_bar(name) as progress:
        found = pull_model(known, overwrite=overwrite, progress=progress)
    if not found.fetched:
        say(f"Note: {name} already exists; --overwrite downloads it again")
    return found.as_dict()


def _pull_repository(reference: str) -> dict[str, Any]:
    from liif_cli.models.hub import stated_licence
    from liif_cli.models.store import find, hub_parts

    parts = hub_parts(reference)
    say(f"Note: licence stated by {reference}: {stated_licence(parts['repo'] or '', parts['revision'])}")
    found = find(reference)
    commit = {"name": reference, "revision": found.revision, "licence": found.header.licence}
    return commit | {"path": str(found.path), "source": reference}


@models.command(cls=Command)
def push(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A checkpoint of liif, or the name of a model.")],
    repository: Annotated[
        str, typer.Argument(metavar="OWNER/REPO", help="The repository on the Hub; it is created if needed.")
    ],
    private: Annotated[
        bool, typer.Option("--private", help="Create the repository as private; refuse if it is public.")
    ] = False,
    card: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Markdown of the model card. Default: made from the checkpoint.")
    ] = None,
    scores: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Output of liif eval --json for this model, for the card.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the card and what would be sent, without sending anything.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Publish a checkpoint on the Hugging Face Hub: model, config and card in one commit.

    The token is the Hub client's own: HF_TOKEN, or the one stored by hf auth login.

    Examples:

      liif models push run/edsr-baseline-liif.safetensors owner/repo --dry-run

      liif models push run/edsr-baseline-liif.safetensors owner/repo --private
    """
    from liif_cli.models import publish

    text, rows = _read_text("--card", card), _read_rows(_read_text("--scores", scores))
    prepared = publish.prepare(file, repository, text=text, rows=rows)
    commit = None if dry_run else publish.push(prepared, private=private)
    if as_json:
        result(json.dumps({"repository": repository, "commit": commit, "files": prepared.sizes, "card": prepared.card}))
    elif commit:
        result(commit)
    else:
        for name, size in prepared.sizes.items():
            say(f"Note: would send {name}, {size:,} bytes")
        result(prepared.card)


def _read_text(option: str, path: Path | None) -> str | None:
    try:
        return path.read_text(encoding="utf-8") if path else None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise UsageError(f"cannot read {option} {path}: {reason}") from None


def _read_rows(text: str | None) -> list[dict[str, Any]]:
    try:
        return list(json.loads(text)["rows"]) if text is not None else []
    except (ValueError, KeyError, TypeError):
        raise UsageError(
            "--scores does not contain an evaluation", hint="it takes the output of liif eval --json"
        ) from None


@models.command(cls=Command)
def export(
    reference: Reference,
    onnx: Annotated[
        Path, typer.Option("--onnx", metavar="DIR", help="Folder for the graphs; it is created if needed.")
    ],
    scale: Annotated[
        int | None, typer.Option(metavar="N", help="Also write one graph for this integer scale, if the decoder can.")
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Export a model as ONNX: encoder and decoder as two graphs with dynamic sizes (needs liif[onnx]).

    Each graph contains the model's config in its metadata. docs/weights.md shows how to render with NumPy and onnxruntime.

    Examples:

      liif models export edsr-baseline-liif --onnx graphs

      liif models export light --onnx graphs --scale 4
    """
    from liif_cli.models.export_onnx import OPSET, export_onnx
    from liif_cli.models.store import find

    paths = export_onnx(find(reference), onnx, scale=scale, overwrite=overwrite)
    if as_json:
        result(json.dumps({"model": reference, "opset": OPSET, "files": [str(path) for path in paths]}))
        return
    for each in paths:
        result(str(each))
