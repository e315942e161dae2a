"""The exceptions of liif with their exit codes, and notes, which are messages that do not end the work.

    LiifError
    ├── UsageError        2   an option's value is invalid, or options contradict each other
    ├── InputError        3   an image cannot be read
    ├── OutputError       4   an output exists or cannot be written
    ├── ModelNotFound     5   the model does not exist, or there is no network to download it
    ├── CheckpointError   6   a checkpoint is corrupt, unsafe or does not match its header
    ├── OutOfMemory       7   not even the smallest tile fits into memory
    ├── DeviceError       8   a device does not exist or failed
    └── LimitError        9   more pixels than allowed, or than the file format can store

Only `liif_cli.cli.app.main` catches them. It prints `Error: ...` and, if there is a hint, `Hint: ...`.
"""

from enum import IntEnum


class ExitCode(IntEnum):
    """The exit codes of the process. The numbers are an API: they do not change."""

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

    message: one sentence for the user. hint: what the user can do, in words valid for both the command line and Python.
    argument: the argument (e.g. of `liif_cli.upscale`) whose value is refused; the message begins with that value. remedy:
    what the user can do, as a key of `cli.explanations.REMEDIES`, for callers that can name options.
    """

    exit_code = ExitCode.SOME_FAILED
    origin: str | None = None  # the variable or file that set the refused value

    def __init__(
        self, message: str, *, hint: str | None = None, argument: str | None = None, remedy: str | None = None
    ) -> None:
        super().__init__(message)
        self.hint, self.argument, self.remedy = hint, argument, remedy


class UsageError(LiifError):
    """An invalid value, or values that contradict each other."""

    exit_code = ExitCode.USAGE


class InputError(LiifError):
    """An image that cannot be read."""

    exit_code = ExitCode.INPUT


class OutputError(LiifError):
    """An output that exists already or cannot be written."""

    exit_code = ExitCode.OUTPUT


class ModelNotFound(LiifError):
    """A model (or data set) that does not exist, or no network to download it."""

    exit_code = ExitCode.MODEL


class CheckpointError(LiifError):
    """A checkpoint that is corrupt, unsafe, or does not match its header."""

    exit_code = ExitCode.CHECKPOINT


class OutOfMemory(LiifError):
    """Not even the smallest tile fits into memory."""

    exit_code = ExitCode.MEMORY


class DeviceError(LiifError):
    """A device that does not exist, or that failed."""

    exit_code = ExitCode.DEVICE


class LimitError(LiifError):
    """More pixels than the caller allows, or than the file format can store."""

    exit_code = ExitCode.LIMIT


class ClosedPipe(LiifError):
    """The reading end of the output's pipe was closed (`liif models | head -1`). Only the exit code reports it."""

    exit_code = ExitCode.OUTPUT


class Note(str):
    """A message for the user. remedy: what the user can do, as in `LiifError`."""

    remedy: str | None = None

    @classmethod
    def on(cls, text: str, remedy: str) -> "Note":
        """A note with a remedy."""
        note = cls(text)
        note.remedy = remedy
        return note
