"""Standard output, which is for results, and standard error, for everything else."""

import codecs
import contextlib
import errno
import logging
import os
import sys
from typing import BinaryIO, TextIO, cast

from liif_cli.errors import ClosedPipe, OutputError, UsageError


def _keep_going(error: UnicodeError) -> tuple[str | bytes, int]:
    """Write undecodable bytes of file names unchanged, and characters that the encoding lacks as escapes."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    first = error.object[error.start]
    if 0xDC80 <= ord(first) <= 0xDCFF:
        return bytes([ord(first) - 0xDC00]), error.start + 1
    one = UnicodeEncodeError(error.encoding, error.object, error.start, error.start + 1, error.reason)
    return codecs.backslashreplace_errors(one)[0], error.start + 1


def prepare_streams() -> None:
    """Make every character printable, and redirect a closed standard output or error to the null device."""
    codecs.register_error("liif", _keep_going)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by the caller: the next opened file would take its descriptor
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="liif")


def hide_downloads() -> None:
    """Disable the progress bars of the Hub's client. Must be called before it is first imported."""
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"


class _Warnings(logging.Handler):
    """Prints warnings logged by the library."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record. Never raises."""
        say(f"Warning: {one_line(record.getMessage())}")


def show_warnings() -> None:
    """Print the warnings logged by liif's own modules."""
    logger = logging.getLogger("liif_cli")
    if not any(isinstance(handler, _Warnings) for handler in logger.handlers):
        logger.addHandler(_Warnings(logging.WARNING))


def finish_streams() -> None:
    """Flush the streams. If the reader has gone, silence the interpreter's own attempt at exit."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def result(text: str) -> None:
    """Print one line of results. On a terminal, control characters, which a name or header may contain, are escaped.

    Raises `ClosedPipe` if the reader has gone.
    """
    _write(sys.stdout, visible(text) if sys.stdout.isatty() else text)


def visible(text: str) -> str:
    """`text` with control characters, bidirectional marks and the like escaped, except for line feeds."""
    return "".join(c if c.isprintable() or c == "\n" or 0xDC80 <= ord(c) <= 0xDCFF else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def say(text: str) -> None:
    """Print one line for the user on standard error. Does nothing if the reader has gone."""
    with contextlib.suppress(ClosedPipe):
        _write(sys.stderr, text)


def say_unless(quiet: bool, *sentences: str) -> None:
    """Print notes for the user, one per line."""
    for sentence in () if quiet else sentences:
        say(f"Note: {one_line(sentence)}")


def _write(stream: TextIO, text: str) -> None:
    try:
        stream.write(f"{text}\n")
        stream.flush()
    except OSError as error:
        if is_closed_pipe(error):
            raise ClosedPipe("the reader of the output has gone") from None
        raise OutputError(f"cannot print the output: {error.strerror}") from error


def is_closed_pipe(error: OSError) -> bool:
    """Whether the reader has gone; on Windows the error is EINVAL."""
    return isinstance(error, BrokenPipeError) or (sys.platform == "win32" and error.errno == errno.EINVAL)


def complain(message: str, hint: str | None = None) -> None:
    """Print `Error:` and, if there is a hint, `Hint:`, one line each."""
    say(f"Error: {one_line(message)}")
    if hint:
        say(f"Hint: {one_line(hint)}")


def show_traceback(error: Exception) -> None:
    """Print an error's traceback, for `LIIF_DEBUG=1`, without secrets in a library's addresses and messages."""
    import traceback

    from liif_cli.stores.addresses import clean

    say(clean("".join(traceback.format_exception(error)).rstrip()))


def one_line(text: str) -> str:
    """`text` without line breaks and other control characters, which a file name may contain."""
    return "".join(c if c.isprintable() or 0xDC80 <= ord(c) <= 0xDCFF else " " for c in " ".join(text.split()))


def binary_output() -> BinaryIO:
    """Standard output for an image. Raises `UsageError` if it is a terminal."""
    if sys.stdout.isatty():
        raise UsageError("cannot write an image to a terminal", hint="redirect it: -o - > out.png")
    return cast(BinaryIO, sys.stdout.buffer)
