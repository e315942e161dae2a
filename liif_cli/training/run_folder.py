"""The folder of a training run: its config, state, log and published model.

RUN/config.json                  the resolved TrainConfig
RUN/state.pt                     everything needed to resume; replaced atomically
RUN/log.jsonl                    one JSON object per line, see `training.events`
RUN/NAME.safetensors             the published model (EMA weights), with its card NAME.md
RUN/previews/, RUN/curve.png     validation images, and curves of loss and scores
"""

import io
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from liif_cli.errors import CheckpointError, InputError, OutputError, UsageError
from liif_cli.machine.files import write_bytes
from liif_cli.models.pickles import check_pickles
from liif_cli.models.schema import ConfigError, parse, plain_text, to_dict
from liif_cli.training.events import Event, Trained, Validated
from liif_cli.training.events import parse as parse_event
from liif_cli.training.recipe import TrainConfig
from liif_cli.training.report import curves


class Run:
    """One run's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stepped = False  # whether the current session has made a step
        self._new_folders: list[Path] | None = None  # made by `create`, innermost first; None after `open`

    @classmethod
    def create(cls, folder: Path, config: TrainConfig) -> "Run":
        """A new run. Raises `OutputError` if the folder already contains one, or cannot be created."""
        run = cls(folder)
        if run.config_path.exists():
            raise OutputError(
                f"{folder} already contains a run",
                hint="continue it, or choose another folder",
                remedy="folder of the run",
            )
        previews = folder / "previews"
        run._new_folders = [each for each in (previews, *previews.parents) if not each.exists()]
        try:
            previews.mkdir(parents=True, exist_ok=True)
            write_bytes(run.config_path, json.dumps(to_dict(config), indent=2).encode())
        except OSError as error:
            raise OutputError(f"cannot write {folder}: {error.strerror}") from None
        return run

    @classmethod
    def open(cls, folder: Path) -> "Run":
        """An existing run. Raises `InputError` if there is none."""
        run = cls(folder)
        if not run.config_path.is_file():
            raise InputError(f"{folder} does not contain a run of liif train (no config.json)")
        return run

    @contextmanager
    def discarded_without_a_step(self) -> Iterator[None]:
        """Context manager: remove a run made by `create` if the block raises before the first step.

        Such a run has nothing to continue, and its folder would block the corrected call. Other files in the folder are kept.
        """
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
            with suppress(OSError):  # not empty
                folder.rmdir()

    @property
    def config_path(self) -> Path:
        """The path of the config."""
        return self.folder / "config.json"

    @property
    def state_path(self) -> Path:
        """The path of the state."""
        return self.folder / "state.pt"

    @property
    def log_path(self) -> Path:
        """The path of the log."""
        return self.folder / "log.jsonl"

    def model_path(self, name: str) -> Path:
        """The path of the published model."""
        return self.folder / f"{name}.safetensors"

    def config(self) -> dict[str, Any]:
        """The run's config, as in its file. Raises `InputError` if it cannot be read."""
        try:
            data = json.loads(plain_text(self.config_path))
        except OSError as error:
            raise InputError(f"cannot read {self.config_path}: {error.strerror}") from None
        except (ConfigError, ValueError, RecursionError) as error:
            raise InputError(f"{self.config_path} is damaged: {error}") from None
        if not isinstance(data, dict):
            raise InputError(f"{self.config_path} is damaged: it is not a JSON object")
        return data

    def parsed_config(self, data: dict[str, Any]) -> TrainConfig:
        """Convert a dictionary from `config` to a `TrainConfig`. Raises `UsageError`."""
        try:
            return parse(TrainConfig, data)
        except ConfigError as error:
            raise UsageError(f"{self.config_path}: {error}") from None

    def tidy(self) -> None:
        """Remove unfinished files that a killed process may have left."""
        for leftover in self.folder.glob(".liif-*"):  # as `files.OutputFile` names them
            with suppress(OSError):
                leftover.unlink(missing_ok=True)

    def save_state(self, state: dict[str, Any]) -> None:
        """Replace the run's state atomically: whenever the process is killed, the old or the new state is complete."""
        buffer = io.BytesIO()
        torch.save(state, buffer)
        write_bytes(self.state_path, buffer.getvalue())

    def load_state(self) -> dict[str, Any] | None:
        """The last saved state, on the CPU; None if there is none yet. Raises `CheckpointError` if it is damaged."""
        if not self.state_path.is_file():
            return None
        check_pickles(self.state_path)
        try:
            state = torch.load(self.state_path, map_location="cpu", weights_only=True)
        except MemoryError:
            raise
        except Exception as error:  # a damaged pickle or archive can raise anything
            reason = " ".join((str(error) or type(error).__name__).split())[:200]
            raise CheckpointError(f"{self.state_path} is damaged: {reason}") from None
        if not isinstance(state, dict):
            raise CheckpointError(f"{self.state_path} is damaged: it is not the state of a run")
        return state

    def log(self, entry: dict[str, Any]) -> None:
        """Append one line to log.jsonl."""
        with self.log_path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def entries(self) -> list[dict[str, Any]]:
        """The log's entries, without incomplete lines."""
        if not self.log_path.is_file():
            return []
        found = []
        for line in self.log_path.read_text("utf-8", errors="replace").splitlines():
            with suppress(ValueError, RecursionError):
                found.append(json.loads(line))
        return [entry for entry in found if isinstance(entry, dict)]

    def events(self) -> list[Event]:
        """The log's events, without those that this version does not know."""
        return [event for event in map(parse_event, self.entries()) if event is not None]

    def last_scores(self) -> dict[str, float]:
        """Scores from the last validation; empty if there was none."""
        return next((event.scores for event in reversed(self.events()) if isinstance(event, Validated)), {})

    def draw_curve(self, bicubic: dict[str, float]) -> None:
        """Draw curve.png from the log: the loss, and the PSNR gain over bicubic at each scale."""
        events = self.events()
        losses = [(event.iteration, event.loss) for event in events if isinstance(event, Trained)]
        validated = [event for event in events if isinstance(event, Validated)]
        gains = {
            f"x{k}": [(event.iteration, event.scores[k] - v) for event in validated if k in event.scores]
            for k, v in bicubic.items()
        }
        image = curves([("training loss", {"loss": losses}), ("validation: gain over bicubic, dB", gains)])
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        write_bytes(self.folder / "curve.png", buffer.getvalue())
