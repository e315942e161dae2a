"""Adds options to the library's errors: the option whose value was refused, and the option that would help.

The library's errors name values and reasons (`errors.LiifError`: argument, remedy), but no options.
"""

from liif_cli.errors import LiifError

OPTIONS = {"output": "-o"}
"""Options that are not written as `--` and the argument."""

REMEDIES = {
    "animation": "--frame N picks one frame; {}",
    "config": "{}; or pass a file with --config FILE",
    "cpu": "try --device cpu",
    "data": "name a folder with --data FOLDER (repeatable)",
    "data_dir": "put the images there, or omit --data-dir to download the set",
    "device": "use --device cpu",
    "device memory": "close other programs, use --device cpu, or render parts with --region",
    "dpi": "add --dpi 300, or give a size in pixels",
    "fit": "--fit contain, cover or crop keeps the aspect ratio",
    "folder of the run": "continue it with --resume, or give --out another folder",
    "folder of the set": "add --data-dir DIR; {}",
    "format": "use --format with one of {}",
    "frame": "--frame picks a frame of an animation",
    "init": "--init CHECKPOINT starts a new run from its weights",
    "licence": "state the licence with --licence",
    "lossless or quality": "give --lossless or --quality",
    "lr": "--lr matlab makes one from the HR image",
    "max_pixels": "--max-pixels raises the limit",
    "memory": "close other programs, raise --memory, or render parts with --region",
    "model": "use --model light",
    "network or folder of the set": "with network access the set is downloaded; otherwise add --data-dir DIR; {}",
    "output folder": "give -o a folder, or a template such as {{stem}}_{{scale}}x.png",
    "output tree": "give -o a folder, which keeps the tree, or a template that distinguishes them",
    "overwrite": "--overwrite replaces it",
    "overwrite or skip": "--overwrite replaces existing files, --skip-existing keeps them",
    "page": "--page picks another page",
    "quality": "--quality is for {}",
    "recursive": "-r includes subfolders",
    "resume": "{}; then continue with --resume",
    "restore": "set a strength with --restore",
    "restore off": "--restore 0 turns it off",
    "stream": "-o - writes to standard output",
    "unlisted": "--overwrite works without listing the folder",
    "usable": "use the file directly with --model",
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
