"""The result of a command that the tests run in this process."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Ran:
    """A finished command: its exit code and the lines on standard output and standard error."""

    code: int
    out: list[str]
    err: list[str]
