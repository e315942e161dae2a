"""Decides everything about a call once, before any work and before torch is loaded.

A `Task` holds all decisions about one image, so that nothing is worked out again later. For an image in a store, only the
places of its outputs are decided (`Deferred`); its header is read with the rest of the object when it is processed.
"""

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import BinaryIO

from liif_cli.coords import Grid
from liif_cli.errors import LiifError, OutputError, UsageError
from liif_cli.images import read
from liif_cli.images.formats.base import Format
from liif_cli.images.formats.table import format_of
from liif_cli.images.picture import Header
from liif_cli.images.write import check_fit, check_options
from liif_cli.machine.files import check_target
from liif_cli.rendering.sizes import Target
from liif_cli.stores.addresses import Address, Place
from liif_cli.stores.objects import check_writable, existing
from liif_cli.upscaling.inputs import Source
from liif_cli.upscaling.manifest import Manifest
from liif_cli.upscaling.options import Options
from liif_cli.upscaling.output_names import STREAM, Naming

PROBES = 4
"""The number of headers that are read concurrently."""


@dataclass(frozen=True)
class Output:
    """One output of an image: the requested size, the resulting grid, the file format, and the destination.

    replaces: whether it replaces the output of an earlier run, regardless of the options.
    """

    target: Target
    grid: Grid
    format: Format
    place: Place | BinaryIO
    replaces: bool = False

    @property
    def name(self) -> str:
        """Its name in messages."""
        return str(self.place) if isinstance(self.place, Place) else STREAM


@dataclass(frozen=True)
class Task:
    """One image and its outputs, which share an encoding. frames: the number to render; 1 for a still image."""

    source: Source
    header: Header
    frames: int
    outputs: tuple[Output, ...]

    @property
    def pixels(self) -> int:
        """The total number of output pixels."""
        return self.frames * sum(output.grid.shape[0] * output.grid.shape[1] for output in self.outputs)

    @property
    def names(self) -> list[str]:
        """The names of its outputs in messages."""
        return [output.name for output in self.outputs]

    def ready(self) -> "Task":
        """Itself: see `Deferred.ready`."""
        return self


@dataclass(frozen=True)
class Deferred:
    """An image whose header has not been read yet, and the (target, place, format) of its outputs.

    replaced: the places where the output of an earlier run is to be replaced.
    """

    source: Source
    options: Options
    outputs: tuple[tuple[Target, Place | BinaryIO, Format], ...]
    replaced: frozenset[Place] = frozenset()
    pixels = 0
    """Not known before the header is read."""

    @property
    def names(self) -> list[str]:
        """The names of its outputs in messages."""
        return [str(place) if isinstance(place, Place) else STREAM for _, place, _ in self.outputs]

    def ready(self) -> Task:
        """The task, after downloading the object. Raises `InputError`, `UsageError`, `LimitError`."""
        image = _image(self.source.fetched(), self.options)
        return replace(image, outputs=self.outputs, replaced=self.replaced).task()


@dataclass(frozen=True)
class Work:
    """Everything that a call has to do.

    tasks: each with at least one output. failures: (input, error) of images that cannot be processed. skipped: outputs that
    exist already. make_folders: whether to create missing output folders. notes: messages for the user.
    """

    tasks: tuple[Task | Deferred, ...]
    failures: tuple[tuple[str, Exception], ...] = ()
    skipped: tuple[Place, ...] = ()
    make_folders: bool = False
    notes: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        """The number of images, including those that cannot be processed."""
        return len(self.tasks) + len(self.failures)

    @property
    def lone(self) -> bool:
        """Whether there is only one image, counting skipped outputs."""
        return self.total + len(self.skipped) == 1


def resolve(
    sources: Sequence[Source],
    targets: Sequence[Target],
    naming: Naming,
    options: Options,
    *,
    stream: BinaryIO | None = None,
    skip_existing: bool = False,
    manifest: Manifest | None = None,
    defer: bool = False,
    failures: Sequence[tuple[str, LiifError]] = (),
) -> Work:
    """Read the header of every image, and decide the grid, the format and the place of each of its outputs.

    stream: the destination of the output, or None for files. skip_existing: skip outputs that exist. manifest: skip outputs
    that exist and that it records as made; replace those whose input or settings have changed; if it is of an earlier run, also
    skip existing outputs that it does not record, unless the options allow overwriting. defer: read no headers now, even of
    local files. failures: inputs known to fail, to be included in `Work.failures`.
    Each header is read once, or not at all if all outputs of its image are skipped. An image that fails does not affect the
    others. Raises only errors of the whole call: `UsageError` if two outputs would be the same file, if an output would replace
    another input, or if a format does not support the options; `OutputError` if an output exists or its folder cannot be
    written.
    """
    named, unnamed, notes = _named(sources, targets, naming, options, stream)
    make_folders = naming.kind in ("file", "folder", "template")
    _check_formats(named, options)
    skipped: list[Place] = []
    if skip_existing or manifest is not None:
        named, skipped = _without_existing(named, manifest, skip_existing, options.save.overwrite)
    looked = skip_existing or (manifest is not None and manifest.earlier)  # then the outputs that are left do not exist
    places = [
        place
        for image in named
        for place in image.places()
        if place not in image.replaced and not (looked and isinstance(place, Address))
    ]
    check_places(places, options.save.overwrite, make_folders=make_folders)
    found = _each(partial(_task, defer=defer), named)
    tasks = tuple(each for each in found if isinstance(each, Task | Deferred))
    broken = [
        (image.source.name, each) for image, each in zip(named, found, strict=True) if isinstance(each, Exception)
    ]
    return Work(tasks, (*failures, *unnamed, *broken), tuple(skipped), make_folders, notes)


def task_for(source: Source, outputs: Sequence[tuple[Target, Place]], options: Options) -> Task:
    """The task of one image with an output for each (target, path). Raises as `resolve`, and errors of the image."""
    image = _image(source, options)
    image = replace(
        image, outputs=tuple((target, path, format_of(path, options.save.format)) for target, path in outputs)
    )
    _check_formats([image], options)
    check_places(image.places(), options.save.overwrite)
    return image.task()


@dataclass(frozen=True)
class _Image:
    """A source that becomes a task. header, grid: computed on first use and cached."""

    source: Source
    options: Options
    header: Callable[[], Header]
    grid: Callable[[Target], Grid]
    outputs: tuple[tuple[Target, Place | BinaryIO, Format], ...] = ()
    replaced: frozenset[Place] = frozenset()

    def places(self) -> list[Place]:
        """The files and objects among its outputs."""
        return [place for _, place, _ in self.outputs if isinstance(place, Place)]

    def task(self) -> Task:
        """The task, with the header and all grids. Raises `InputError`, `UsageError`, `LimitError`."""
        header = self.header()
        frames = header.frames if self.options.frame is None else 1
        outputs = [
            Output(target, self.grid(target), form, place, place in self.replaced)
            for target, place, form in self.outputs
        ]
        for output in outputs:
            check_fit(output.format, output.grid.shape, frames)
        return Task(self.source, header, frames, tuple(outputs))


def _image(source: Source, options: Options) -> _Image:
    @cache
    def header() -> Header:
        return read.probe(source.read(), page=options.page, frame=options.frame)

    @cache
    def grid(target: Target) -> Grid:
        return options.grid((header().height, header().width), target, header().dpi)

    return _Image(source, options, header, grid)


def _named(
    sources: Iterable[Source], targets: Sequence[Target], naming: Naming, options: Options, stream: BinaryIO | None
) -> tuple[list[_Image], list[tuple[str, LiifError]], tuple[str, ...]]:
    """The images with the places and formats of their outputs, (input, error) of those that failed, and notes.

    Images that the user did not name are left out if they are outputs of this call.
    """
    images, failures = list[_Image](), list[tuple[str, LiifError]]()
    notes: tuple[str, ...] = ()
    for source in sources:
        try:
            images.append(_placed(_image(source, options), targets, naming, stream))
        except LiifError as error:
            if naming.kind == "next to input" and source.path is None:
                raise
            failures.append((source.name, error))
    made = {_key(place) for image in images for place in image.places()}
    images = [
        each for each in images if not (each.source.found and each.source.path and _key(each.source.path) in made)
    ]
    if naming.kind in ("next to input", "folder"):
        alike = _alike(images)
        images = [
            _placed(image, targets, naming, stream, with_suffix=True) if image.source in alike else image
            for image in images
        ]
        notes = _note_on(images, alike)
    _check_distinct(images)
    return images, failures, notes


def _placed(
    image: _Image, targets: Sequence[Target], naming: Naming, stream: BinaryIO | None, with_suffix: bool = False
) -> _Image:
    """The image with the places and formats of its outputs. Raises as `Naming.path`."""
    places = [
        stream or naming.path(image.source, target, partial(image.grid, target), with_suffix) for target in targets
    ]
    forms = [format_of(place if isinstance(place, Place) else None, image.options.save.format) for place in places]
    return replace(image, outputs=tuple(zip(targets, places, forms, strict=True)))


def _alike(images: Sequence[_Image]) -> list[Source]:
    """The sources whose outputs would collide with those of a source of another suffix, such as `a.jpg` and `a.png`."""
    sharing: dict[str, list[Source]] = {}
    for image in images:
        for key in {_key(place) for place in image.places()}:
            sharing.setdefault(key, []).append(image.source)
    return [source for each in sharing.values() if len({s.suffix for s in each}) > 1 for source in each]


def _note_on(images: Sequence[_Image], alike: Sequence[Source]) -> tuple[str, ...]:
    """A note that some names contain the input's suffix, with the first as an example."""
    shown = [f"{image.source.name} becomes {image.places()[0].name}" for image in images if image.source in alike]
    if not shown:
        return ()
    return (f"{len(shown)} inputs differ only in their suffix, so their outputs' names include it: {shown[0]}",)


def _check_distinct(images: Sequence[_Image]) -> None:
    origin: dict[str, Source] = {}
    for image in images:
        own = [_key(place) for place in image.places()]
        for key, place in zip(own, image.places(), strict=True):
            if (other := origin.setdefault(key, image.source)) is not image.source:
                raise UsageError(
                    f"{other.name} and {image.source.name} would both be written to {place}",
                    hint="name a folder, which keeps the tree, or a template that distinguishes them",
                    remedy="output tree",
                )
        if len(set(own)) < len(own):
            raise UsageError(
                f"several sizes of {image.source.name} would be written to {image.places()[0]}",
                hint="put {scale}, {width} or {height} into the name",
            )
    for image in images:
        writer = origin.get(_key(image.source.path)) if image.source.path else None
        if writer is not None and writer is not image.source:
            raise UsageError(f"the output of {writer.name} would replace {image.source.name}, which is an input")


def _key(path: Place) -> str:
    """A key that is equal for two names of one file, as compared by the system's usual file system.

    In a store, different names are always different objects.
    """
    if isinstance(path, Address):
        return path.full
    name = os.path.normcase(path.parent.resolve() / path.name)
    return name.casefold() if sys.platform == "darwin" else name


def _check_formats(images: Iterable[_Image], options: Options) -> None:
    """Check the options once for each format, not for each image. Raises `UsageError`."""
    for form in {form.name: form for image in images for _, _, form in image.outputs}.values():
        check_options(form, options.save)


def _without_existing(
    images: Sequence[_Image], manifest: Manifest | None, skip_existing: bool, overwrite: bool
) -> tuple[list[_Image], list[Place]]:
    """The images without the outputs to skip, and those outputs. A manifest takes precedence over `skip_existing`."""
    skipped: list[Place] = []
    left = []
    there = existing(place for image in images for place in image.places())
    for image in images:
        states = {place: manifest.state(image.source, place) if manifest else "unknown" for place in image.places()}
        keep = skip_existing or (manifest is not None and manifest.earlier and not overwrite)
        kept = {
            place
            for place, state in states.items()
            if place in there and (state == "made" or (state == "unknown" and keep))
        }
        skipped += [place for place in image.places() if place in kept]
        changed = frozenset(place for place, state in states.items() if place in there and state == "changed")
        if missing := tuple(output for output in image.outputs if output[1] not in kept):
            left.append(replace(image, outputs=missing, replaced=changed))
    return left, skipped


def check_places(places: Sequence[Place], overwrite: bool, *, make_folders: bool = False) -> None:
    """Check outputs before any work. make_folders: missing folders are allowed if they can be created.

    Raises `OutputError` if an output exists and may not be replaced, or if its folder cannot be written.
    """
    taken = set() if overwrite else existing(places)
    there = [place for place in places if place in taken]
    if len(there) > 1:
        raise OutputError(f"{there[0]} and {len(there) - 1} more outputs exist", remedy="overwrite or skip")
    for path in places:
        if isinstance(path, Address):
            check_writable(path)
            if path in taken:
                raise OutputError(f"{path} exists", remedy="overwrite")
        elif make_folders and not path.parent.exists():
            _check_creatable(path.parent)
        else:
            check_target(path, overwrite)


def _check_creatable(folder: Path) -> None:
    above = next(parent for parent in folder.absolute().parents if parent.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise OutputError(f"cannot create the folder {folder}: {above} is not writable")


def _task(image: _Image, defer: bool = False) -> Task | Deferred | Exception:
    """The image's task, deferred if it is in a store or `defer` is set, or the error."""
    if image.source.remote or defer:
        return Deferred(image.source, image.options, image.outputs, image.replaced)
    try:
        return image.task()
    except Exception as error:  # whatever a decoder raises affects only its image
        return error


def _each(
    find: Callable[[_Image], Task | Deferred | Exception], images: Sequence[_Image]
) -> list[Task | Deferred | Exception]:
    """`find` applied to every image, in order, several at a time."""
    pool = ThreadPoolExecutor(PROBES, "liif-probe")
    try:
        return list(pool.map(find, images))
    finally:
        pool.shutdown(cancel_futures=True)
