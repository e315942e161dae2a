"""The exceptions of liif and the exit codes they stand for; notes, which stop nothing.

    LiifError
    ├── UsageError        2   options that make no sense, or not together
    ├── InputError        3   an image that cannot be read
    ├── OutputError       4   an output that exists or cannot be written
    ├── ModelNotFound     5   no such model, or no network to fetch it
    ├── CheckpointError   6   a checkpoint that is corrupt, unsafe or not what it says
    ├── OutOfMemory       7   not even the smallest tile fits
    ├── DeviceError       8   a device that is not there or failed
    └── LimitError        9   more pixels than allowed, or than the file format holds

Only `liif_cli.cli.app.main` catches them; it prints `Error: ...` and, where there is one, `Hint: ...`.
"""

from enum import IntEnum


class ExitCode(IntEnum):
    """What the process returns. The numbers are an API: they do not change."""

    OK = 0
    SOME_FAILED = 1
    USAGE = 2
    INPUT = 3
    OUTPUT = 4
    MODEL = 5
    CHECKPOINT = 6
    MEMORY = 7
    DEVICE = 8
    LIMIT = 9
    INTERRUPTED = 130


class LiifError(Exception):
    """Base of all errors that liif raises on purpose.

    message: one sentence for a person. hint: what would help, in words that hold for the command line and for Python.
    argument: the argument (of `liif_cli.upscale`, say) whose value is refused; the message begins with the value. remedy: what
    would help, as a key of `cli.explanations.REMEDIES`, for a caller that has options of its own to name.
    """

    exit_code = ExitCode.SOME_FAILED
    origin: str | None = None  # where a caller that has settings took the refused value from

    def __init__(
        self, message: str, *, hint: str | None = None, argument: str | None = None, remedy: str | None = None
    ) -> None:
        super().__init__(message)
        self.hint, self.argument, self.remedy = hint, argument, remedy


class UsageError(LiifError):
    """Options that make no sense, or not together."""

    exit_code = ExitCode.USAGE


class InputError(LiifError):
    """An image that cannot be read."""

    exit_code = ExitCode.INPUT


class OutputError(LiifError):
    """An output that exists already or cannot be written."""

    exit_code = ExitCode.OUTPUT


class ModelNotFound(LiifError):
    """No such model (or data set), or no network to fetch it with."""

    exit_code = ExitCode.MODEL


class CheckpointError(LiifError):
    """A checkpoint that is corrupt, unsafe, or does not hold what it says."""

    exit_code = ExitCode.CHECKPOINT


class OutOfMemory(LiifError):
    """Not even the smallest tile fits into memory."""

    exit_code = ExitCode.MEMORY


class DeviceError(LiifError):
    """A device that is not there, or that failed."""

    exit_code = ExitCode.DEVICE


class LimitError(LiifError):
    """More pixels than the caller allows, or than the file format can hold."""

    exit_code = ExitCode.LIMIT


class ClosedPipe(LiifError):
    """Whoever read our output has gone (`liif models | head -1`). Said by the exit code alone."""

    exit_code = ExitCode.OUTPUT


class Note(str):
    """A sentence for the user. remedy: what would help, as `LiifError` has it."""

    remedy: str | None = None

    @classmethod
    def on(cls, text: str, remedy: str) -> "Note":
        """A note that knows a remedy."""
        note = cls(text)
        note.remedy = remedy
        return note
