"""What `liif train` shows: one live line on a terminal, lines of text elsewhere; all on standard error."""

import time
from typing import TYPE_CHECKING, Any, Self

from liif_cli.commands.display import make_bar
from liif_cli.console import one_line, say

if TYPE_CHECKING:
    from rich.progress import Progress

QUIET_SECONDS = 30.0  # between lines of text where there is no terminal


class Live:
    """A `train.Watcher` that prints."""

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self._bar: Progress | None = None if quiet else make_bar()
        self._task: Any = None
        self._detail = ""
        self._said = 0.0

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def hear(self, entry: dict[str, Any]) -> None:
        """Show one entry of the run's log, or a step."""
        if self.quiet:
            return
        if entry["event"] == "step":
            self._move(entry["iteration"], entry["iterations"])
        elif entry["event"] == "train":
            self._detail = describe(entry)
            if self._bar is None and time.monotonic() - self._said > QUIET_SECONDS:
                self._said = time.monotonic()
                say(f"iteration {entry['iteration']:,}: {self._detail}")
        elif (text := sentence(entry)) is not None:
            self._print(text)

    def _move(self, iteration: int, iterations: int) -> None:
        if self._bar is None:
            return
        if self._task is None:
            self._task = self._bar.add_task("train", total=iterations, completed=iteration - 1, detail="")
        detail = f"{iteration:,}/{iterations:,} {self._detail}"
        self._bar.update(self._task, completed=iteration, detail=detail)

    def _print(self, text: str) -> None:
        if self._bar is not None:
            self._bar.console.print(one_line(text), markup=False, highlight=False)
        else:
            say(one_line(text))


def describe(entry: dict[str, Any]) -> str:
    """The numbers of a `train` entry, short enough for one line."""
    waiting = f", {entry['waiting']:.0%} waiting for data" if entry["waiting"] >= 0.01 else ""
    return (
        f"loss {entry['loss']:.4f}, PSNR {entry['psnr']:.2f} dB, {entry['samples_per_second']:.1f} samples/s{waiting}"
    )


def sentence(entry: dict[str, Any]) -> str | None:
    """What there is to say about an event; None if nothing."""
    skipped = [f"skipped: {reason}" for reason in entry.get("skipped", ())]
    if entry["event"] == "skipped":
        return "; ".join(skipped)
    if entry["event"] == "start":
        where = "in memory" if entry["in_memory"] else "read as needed"
        begun = f"from {entry['source']}, iteration {entry['iteration']:,}, on {entry['pictures']:,} pictures ({where})"
        return "; ".join([*skipped, begun])
    if entry["event"] == "validate":
        scores = ", ".join(f"x{scale} {value:.2f} dB" for scale, value in entry["scores"].items())
        return f"iteration {entry['iteration']:,}: validation {scores}"
    return None
