"""The manifest of a run: a table with a row for each output, by which a later run skips outputs that are up to date.

During a run, rows are appended as JSON lines, so that a killed run loses none. At the end the table is rewritten with the last
row of each output, as JSON lines or as Parquet.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Literal, Self

from liif_cli.errors import ExitCode, OutputError, UsageError
from liif_cli.machine.files import OutputFile
from liif_cli.models.checkpoints import Checkpoint
from liif_cli.rendering.sizes import Target
from liif_cli.stores.addresses import Place
from liif_cli.upscaling.inputs import Source
from liif_cli.upscaling.options import Options
from liif_cli.upscaling.results import Result

SUFFIXES = (".jsonl", ".parquet")
BATCH = 10_000
"""Rows that are converted to Parquet at a time."""
State = Literal["made", "changed", "unknown"]


@dataclass(frozen=True)
class Row:
    """The record of one output, or of an input that failed before its outputs were known.

    size, version: of the input: its size in bytes, and its ETag or modification time. scale: the effective scale, (x, y).
    settings: a digest of everything, except the input, that determines the output. seconds: the time that it took. notes:
    messages for the user. error: the message, None on success. code: 0, or the exit code of the error.
    """

    input: str
    size: int | None
    version: str | None
    output: str | None
    width: int | None
    height: int | None
    scale: tuple[float, float] | None
    model: str
    revision: str | None
    settings: str
    seconds: float | None
    notes: tuple[str, ...]
    error: str | None
    code: int

    @property
    def key(self) -> tuple[str, str]:
        """Identifies the output. Of several rows with the same key, the last is valid."""
        return self.input, self.output or ""


Stamp = tuple[int | None, str | None]
"""The size in bytes and the version of an input, None if unknown."""


def stamp(source: Source) -> Stamp:
    """The stamp of an input, from a store's listing or from the file system.

    (None, None) for standard input and web addresses, which are always treated as changed.
    """
    if source.entry is not None:
        return source.entry.size, source.entry.version
    if isinstance(source.path, Path):
        with contextlib.suppress(OSError):
            found = source.path.stat()
            return found.st_size, datetime.fromtimestamp(found.st_mtime, UTC).isoformat()
    return None, None


def settings(options: Options, targets: Sequence[Target], checkpoint: Checkpoint) -> str:
    """A digest, 16 hexadecimal digits, of the options, sizes and model that determine the bytes of the outputs."""
    file = checkpoint.path.stat()
    model = [checkpoint.name, checkpoint.revision or f"{file.st_size} {file.st_mtime_ns}"]
    chosen = asdict(options)
    for free in ("device", "max_pixels", "memory", "tile", "chunk"):
        del chosen[free]
    del chosen["save"]["overwrite"]
    told = [model, sorted((name, repr(value)) for name, value in chosen.items()), [repr(target) for target in targets]]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


class Manifest:
    """The manifest file, `.jsonl` or `.parquet`. As a context manager, it records the rows of a run.

    stamps: the inputs' stamps by name, filled while the work is resolved. earlier: whether an earlier run has written the file.
    Raises `UsageError` for another suffix or a missing library, and `OutputError` if the file is not a manifest, cannot be
    written or is in use.
    """

    def __init__(self, path: Path, settings: str, checkpoint: Checkpoint) -> None:
        if path.suffix.lower() not in SUFFIXES:
            raise UsageError(f"{path} is neither .jsonl nor .parquet", argument="manifest")
        self.path, self.settings, self.checkpoint = path, settings, checkpoint
        self.stamps: dict[str, Stamp] = {}
        self._parquet = path.suffix.lower() == ".parquet"
        if self._parquet:
            _pyarrow()
        self.journal = path.with_name(f".{path.name}.journal") if self._parquet else path
        self.earlier = path.exists() or self.journal.exists()
        self._made = {
            row.output: (row.input, row.size, row.version, row.settings) for row in self._last() if not row.code
        }
        self._file: IO[str] | None = None

    def state(self, source: Source, place: Place) -> State:
        """The state of an output in the manifest; also stores the input's stamp.

        "made": an earlier run made it from the input as it is now, with the same settings; "changed": the input or the
        settings have changed; "unknown": no earlier run made it.
        """
        found = self.stamps[source.name] = stamp(source)
        recorded = self._made.get(str(place))
        if recorded is None:
            return "unknown"
        return "made" if None not in found and recorded == (source.name, *found, self.settings) else "changed"

    def __enter__(self) -> Self:
        self.journal.parent.mkdir(parents=True, exist_ok=True)
        self._lock()
        try:
            self._file = self.journal.open("a+", encoding="utf-8")
            self._end_last_line()
        except OSError as error:
            raise OutputError(f"cannot write {self.journal}: {error.strerror}") from error
        return self

    def _lock(self) -> None:
        from filelock import FileLock, Timeout

        self._lock_file = self.path.with_name(f".{self.path.name}.lock")
        self._held = FileLock(self._lock_file)
        try:
            self._held.acquire(timeout=0)
        except Timeout:
            raise OutputError(f"{self.path} is in use by another run", hint="give each run its own manifest") from None

    def _end_last_line(self) -> None:
        """End an incomplete last line, left by a run that was killed."""
        assert self._file is not None
        with self.journal.open("rb") as file:
            if file.seek(0, os.SEEK_END) and file.seek(-1, os.SEEK_END) >= 0 and file.read(1) != b"\n":
                self._file.write("\n")

    def __exit__(self, *_: object) -> None:
        assert self._file is not None
        self._file.close()
        try:
            if self._parquet or self.earlier:
                self._write_table()
        finally:
            self._held.release()
            with contextlib.suppress(OSError):
                self._lock_file.unlink()

    def finished(self, result: Result) -> None:
        """Record an output that was made. Raises `OutputError`."""
        size, version = self.stamps.get(result.input, (None, None))
        about = (result.output, result.width, result.height, result.scale, result.model, result.revision)
        self._add(Row(result.input, size, version, *about, self.settings, result.seconds, result.notes, None, 0))

    def failed(self, name: str, outputs: Sequence[str], message: str, code: int) -> None:
        """Record outputs that failed. name: of the input. outputs: empty if they are not known. Raises `OutputError`."""
        size, version = self.stamps.get(name, (None, None))
        model, revision = self.checkpoint.name, self.checkpoint.revision
        for output in outputs or [None]:  # type: ignore[list-item]
            about = (output, None, None, None, model, revision, self.settings, None, ())
            self._add(Row(name, size, version, *about, message, code or ExitCode.SOME_FAILED))

    def _add(self, row: Row) -> None:
        assert self._file is not None
        try:
            self._file.write(f"{json.dumps(asdict(row))}\n")
            self._file.flush()
        except OSError as error:
            raise OutputError(f"cannot write {self.journal}: {error.strerror}") from error

    def _last(self) -> Iterator[Row]:
        """The last row of each output, in the order of their first rows."""
        last: dict[tuple[str, str], Row] = {}
        for row in self._rows():
            if row.output:
                last.pop((row.input, ""), None)  # recorded when it failed before its outputs were known
            last[row.key] = row
        yield from last.values()

    def _rows(self) -> Iterator[Row]:
        if self._parquet and self.path.exists():
            yield from _read_parquet(self.path)
        if self.journal.exists():
            yield from _read_lines(self.journal)

    def _write_table(self) -> None:
        """Replace the table by the last row of each output."""
        rows = list(self._last())
        with OutputFile(self.path, overwrite=True) as temporary:
            if self._parquet:
                _write_parquet(temporary, rows)
            else:
                with temporary.open("w", encoding="utf-8") as file:
                    file.writelines(f"{json.dumps(asdict(row))}\n" for row in rows)
        if self._parquet:
            self.journal.unlink()


def _row(values: Mapping[str, Any]) -> Row:
    scale = values["scale"]
    return Row(**{**values, "scale": tuple(scale) if scale else None, "notes": tuple(values["notes"] or ())})


def _read_lines(path: Path) -> Iterator[Row]:
    """The rows of a JSON lines file. Lines that are incomplete are skipped. Raises `OutputError` if it is not a manifest."""
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            try:
                yield _row(json.loads(line))
            except (ValueError, KeyError, TypeError):
                if number == 1 and line.strip():
                    raise OutputError(f"{path} is not a manifest; it was left unchanged") from None


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise UsageError(
            "cannot write Parquet: pyarrow is not installed", hint="pip install pyarrow, or use the suffix .jsonl"
        ) from None
    return pyarrow


def _schema() -> Any:
    arrow = _pyarrow()
    text, whole = arrow.string(), arrow.int64()
    columns = {"input": text, "size": whole, "version": text, "output": text, "width": whole, "height": whole}
    columns |= {"scale": arrow.list_(arrow.float64()), "model": text, "revision": text, "settings": text}
    columns |= {"seconds": arrow.float64(), "notes": arrow.list_(text), "error": text, "code": whole}
    return arrow.schema(list(columns.items()))


def _write_parquet(path: Path, rows: Sequence[Row]) -> None:
    arrow, schema = _pyarrow(), _schema()
    with arrow.parquet.ParquetWriter(path, schema) as writer:
        for start in range(0, len(rows), BATCH):
            batch = [asdict(row) for row in rows[start : start + BATCH]]
            writer.write_table(arrow.Table.from_pylist(batch, schema=schema))


def _read_parquet(path: Path) -> Iterator[Row]:
    arrow = _pyarrow()
    try:
        with arrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(BATCH):
                yield from map(_row, batch.to_pylist())
    except (arrow.ArrowException, KeyError, TypeError) as error:
        raise OutputError(f"{path} is not a manifest; it was left unchanged: {error}") from None
