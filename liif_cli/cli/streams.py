"""Standard output and standard error: results to the one, everything else to the other, whatever they are connected to."""

import codecs
import contextlib
import errno
import logging
import os
import sys
from typing import BinaryIO, TextIO, cast

from liif_cli.errors import ClosedPipe, OutputError, UsageError


def _keep_going(error: UnicodeError) -> tuple[str | bytes, int]:
    """Bytes of a file name that are no text leave as they came; characters that the encoding lacks, as escapes."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    first = error.object[error.start]
    if 0xDC80 <= ord(first) <= 0xDCFF:
        return bytes([ord(first) - 0xDC00]), error.start + 1
    one = UnicodeEncodeError(error.encoding, error.object, error.start, error.start + 1, error.reason)
    return codecs.backslashreplace_errors(one)[0], error.start + 1


def prepare_streams() -> None:
    """Make printing fail for no character, and give a closed standard output or error somewhere to go."""
    codecs.register_error("liif", _keep_going)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by the caller: the next file to be opened would take its number
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="liif")


def hide_downloads() -> None:
    """Let the Hub's client show no progress; to be called before it is first imported."""
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"


class _Warnings(logging.Handler):
    """What the library logs as a warning, as a line for the user."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print it; never raises."""
        say(f"Warning: {one_line(record.getMessage())}")


def show_warnings() -> None:
    """Print the warnings that liif's own modules log."""
    logger = logging.getLogger("liif_cli")
    if not any(isinstance(handler, _Warnings) for handler in logger.handlers):
        logger.addHandler(_Warnings(logging.WARNING))


def finish_streams() -> None:
    """Write out what is waiting; where nobody reads any more, let the interpreter's own attempt at the end be silent."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def result(text: str) -> None:
    """One line of results; on a terminal, without the control characters that a name or a header may hold. Raises
    `ClosedPipe` when nobody reads them."""
    _write(sys.stdout, visible(text) if sys.stdout.isatty() else text)


def visible(text: str) -> str:
    """`text` with control characters, bidirectional marks and the like as escapes, except for line feeds between its lines."""
    return "".join(c if c.isprintable() or c == "\n" or 0xDC80 <= ord(c) <= 0xDCFF else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def say(text: str) -> None:
    """One line for the user, on standard error; lost where nobody reads it."""
    with contextlib.suppress(ClosedPipe):
        _write(sys.stderr, text)


def _write(stream: TextIO, text: str) -> None:
    try:
        stream.write(f"{text}\n")
        stream.flush()
    except OSError as error:
        if is_closed_pipe(error):
            raise ClosedPipe("nobody reads the output") from None
        raise OutputError(f"the output cannot be printed: {error.strerror}") from error


def is_closed_pipe(error: OSError) -> bool:
    """Whether the reader has gone; Windows says EINVAL."""
    return isinstance(error, BrokenPipeError) or (sys.platform == "win32" and error.errno == errno.EINVAL)


def complain(message: str, hint: str | None = None) -> None:
    """`Error:` and, where there is one, `Hint:`, one line each."""
    say(f"Error: {one_line(message)}")
    if hint:
        say(f"Hint: {one_line(hint)}")


def show_traceback(error: Exception) -> None:
    """Where an error happened, for `LIIF_DEBUG=1`, without the secrets that a library's addresses and messages may hold."""
    import traceback

    from liif_cli.stores.addresses import clean

    say(clean("".join(traceback.format_exception(error)).rstrip()))


def one_line(text: str) -> str:
    """`text` without line breaks and other control characters, which a file name may hold."""
    return "".join(c if c.isprintable() or 0xDC80 <= ord(c) <= 0xDCFF else " " for c in " ".join(text.split()))


def binary_output() -> BinaryIO:
    """Standard output for an image. Raises `UsageError` when it is a terminal."""
    if sys.stdout.isatty():
        raise UsageError("an image is not written to a terminal", hint="send it to a file or a program: -o - > out.png")
    return cast(BinaryIO, sys.stdout.buffer)
