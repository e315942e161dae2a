"""The folder of a training run: its config, its state, its log and what it publishes.

RUN/config.toml... config.json   the resolved TrainConfig
RUN/state.pt                     everything that resuming needs; replaced atomically
RUN/log.jsonl                    one JSON object a line: train, validate, checkpoint, start, end
RUN/NAME.safetensors             the published model (EMA weights), with its card NAME.md
RUN/previews/, RUN/curve.png     pictures to look at
"""

import io
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from liif_cli.errors import InputError, OutputError, UsageError
from liif_cli.machine.files import write_bytes
from liif_cli.models.schema import ConfigError, parse, to_dict
from liif_cli.training.events import Event, Trained, Validated
from liif_cli.training.events import parse as parse_event
from liif_cli.training.recipe import TrainConfig
from liif_cli.training.report import curves


class Run:
    """One run's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stepped = False  # whether a step was made since this object was made
        self._new_folders: list[Path] | None = None  # those that `create` made, the innermost first; None for `open`

    @classmethod
    def create(cls, folder: Path, config: TrainConfig) -> "Run":
        """A new run. Raises `OutputError` if the folder already holds one, or cannot be made."""
        run = cls(folder)
        if run.config_path.exists():
            raise OutputError(f"{folder} already holds a run", hint=f"Continue it with: liif train --resume {folder}")
        previews = folder / "previews"
        run._new_folders = [each for each in (previews, *previews.parents) if not each.exists()]
        try:
            previews.mkdir(parents=True, exist_ok=True)
            write_bytes(run.config_path, json.dumps(to_dict(config), indent=2).encode())
        except OSError as error:
            raise OutputError(f"{folder} cannot be written: {error.strerror}") from None
        return run

    @classmethod
    def open(cls, folder: Path) -> "Run":
        """An existing run. Raises `InputError` if there is none."""
        run = cls(folder)
        if not run.config_path.is_file():
            raise InputError(f"{folder} holds no run of liif train (no config.json)")
        return run

    @contextmanager
    def discarded_without_a_step(self) -> Iterator[None]:
        """Remove a run that `create` made if the block raises before a step was made: nothing would be there to continue, and
        the folder would be in the way of the corrected call. What else is in the folder stays."""
        try:
            yield
        except BaseException:
            if self._new_folders is not None and not self.stepped:
                self._discard(self._new_folders)
            raise

    def _discard(self, folders: list[Path]) -> None:
        for file in (self.config_path, self.log_path):
            file.unlink(missing_ok=True)
        shutil.rmtree(self.folder / "tensorboard", ignore_errors=True)
        for folder in folders:
            with suppress(OSError):  # it holds something else
                folder.rmdir()

    @property
    def config_path(self) -> Path:
        return self.folder / "config.json"

    @property
    def state_path(self) -> Path:
        return self.folder / "state.pt"

    @property
    def log_path(self) -> Path:
        return self.folder / "log.jsonl"

    def model_path(self, name: str) -> Path:
        """Where the published model lies."""
        return self.folder / f"{name}.safetensors"

    def config(self) -> dict[str, Any]:
        """The run's config as it was written."""
        data: dict[str, Any] = json.loads(self.config_path.read_text("utf-8"))
        return data

    def parsed_config(self, data: dict[str, Any]) -> TrainConfig:
        """`TrainConfig` of such a dictionary. Raises `UsageError`."""
        try:
            return parse(TrainConfig, data)
        except ConfigError as error:
            raise UsageError(f"{self.config_path}: {error}") from None

    def tidy(self) -> None:
        """Remove what a killed process may have left of a file it was writing."""
        for leftover in self.folder.glob(".liif-*"):  # as `files.OutputFile` names them
            leftover.unlink(missing_ok=True)

    def save_state(self, state: dict[str, Any]) -> None:
        """Replace the run's state; a reader, or a run killed at any moment, finds the old one or the new one."""
        buffer = io.BytesIO()
        torch.save(state, buffer)
        write_bytes(self.state_path, buffer.getvalue())

    def load_state(self) -> dict[str, Any] | None:
        """The last state written, on the CPU; None if the run was stopped before its first."""
        if not self.state_path.is_file():
            return None
        state: dict[str, Any] = torch.load(self.state_path, map_location="cpu", weights_only=True)
        return state

    def log(self, entry: dict[str, Any]) -> None:
        """Append one line to log.jsonl."""
        with self.log_path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def entries(self) -> list[dict[str, Any]]:
        """The log's entries; a last line that was cut off is left out."""
        if not self.log_path.is_file():
            return []
        found = []
        for line in self.log_path.read_text("utf-8").splitlines():
            try:
                found.append(json.loads(line))
            except json.JSONDecodeError:
                continue
        return found

    def events(self) -> list[Event]:
        """What the log tells, as far as this version knows it."""
        return [event for event in map(parse_event, self.entries()) if event is not None]

    def last_scores(self) -> dict[str, float]:
        """Scores of the last validation; empty if there was none."""
        return next((event.scores for event in reversed(self.events()) if isinstance(event, Validated)), {})

    def draw_curve(self, bicubic: dict[str, float]) -> None:
        """Draw curve.png from the log: loss, and PSNR above bicubic at each scale."""
        events = self.events()
        losses = [(event.iteration, event.loss) for event in events if isinstance(event, Trained)]
        validated = [event for event in events if isinstance(event, Validated)]
        gains = {
            f"x{k}": [(event.iteration, event.scores[k] - v) for event in validated if k in event.scores]
            for k, v in bicubic.items()
        }
        image = curves([("training loss", {"loss": losses}), ("validation: dB above bicubic", gains)])
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        write_bytes(self.folder / "curve.png", buffer.getvalue())
