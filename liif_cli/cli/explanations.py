"""Adds options to the library's errors: the option whose value was refused, and the option that would help.

The library's errors name values and reasons (`errors.LiifError`: argument, remedy), but no options.
"""

from liif_cli.errors import LiifError

OPTIONS = {"output": "-o"}
"""Options that are not written as `--` and the argument."""

REMEDIES = {
    "animation": "--frame N picks one frame; {}",
    "config": "{}; or a file: --config FILE",
    "cpu": "try --device cpu",
    "data": "--data FOLDER, repeatable",
    "data_dir": "put them there, or omit --data-dir to download the set",
    "device": "use --device cpu",
    "device memory": "close other programs, use --device cpu, or render parts with --region",
    "dpi": "--dpi 300, or a size in pixels",
    "fit": "--fit contain, cover or crop keeps it",
    "folder of the set": "add --data-dir DIR; {}",
    "format": "use --format with one of {}",
    "frame": "--frame picks a frame of an animation",
    "init": "--init CHECKPOINT starts a new run from its weights",
    "licence": "--licence states it",
    "lossless or quality": "give --lossless or --quality",
    "lr": "--lr matlab makes one",
    "max_pixels": "--max-pixels raises the limit",
    "memory": "close other programs, raise --memory, or render parts with --region",
    "model": "--model light",
    "network or folder of the set": "with network access the set is downloaded; otherwise add --data-dir DIR; {}",
    "output folder": "-o a folder, or a template such as {{stem}}_{{scale}}x.png",
    "output tree": "give -o a folder, which keeps the tree, or a template that distinguishes them",
    "overwrite": "--overwrite replaces it",
    "overwrite or skip": "--overwrite replaces and --skip-existing keeps them",
    "page": "--page picks another page",
    "quality": "--quality is for {}",
    "recursive": "-r includes its subfolders",
    "resume": "{}; then --resume",
    "restore": "--restore sets one",
    "restore off": "--restore 0 turns it off",
    "stream": "-o - writes to standard output",
    "unlisted": "--overwrite needs no listing",
    "usable": "use it with --model as it is",
}
"""Hints by `LiifError.remedy`; {} is the library's own hint."""


def noted(note: str) -> str:
    """A note, followed by the option that would help."""
    remedy = REMEDIES.get(getattr(note, "remedy", None) or "")
    return note if remedy is None else f"{note}; {remedy}"


def explained(error: Exception) -> tuple[str, str | None]:
    """The message and the hint of an error, with the options concerned."""
    if not isinstance(error, LiifError):
        return f"{type(error).__name__}: {error}", None
    message = str(error)
    origin = f"(from {error.origin})" if error.origin else ""
    if error.argument is not None:
        option = OPTIONS.get(error.argument, "--" + error.argument.replace("_", "-"))
        message = " ".join(part for part in (option, origin, message) if part)
    elif origin:
        message = f"{message} {origin}"
    remedy = REMEDIES.get(error.remedy or "")
    return message, error.hint if remedy is None else remedy.format(error.hint)
