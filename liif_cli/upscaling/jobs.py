"""What a call is to do, decided once: before anything is done, and before torch is loaded.

A `Task` carries all that was decided of one image; whoever works on it asks nothing again. Of an image in a store only its
outputs' places are decided (`Deferred`): its header is read with the rest of it, when its turn comes.
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
"""Headers that are read at once."""


@dataclass(frozen=True)
class Output:
    """One output of an image: the requested size, the resulting grid, the file format, and the destination.

    replaces: whether it replaces what an earlier run made there, regardless of the options.
    """

    target: Target
    grid: Grid
    format: Format
    place: Place | BinaryIO
    replaces: bool = False

    @property
    def name(self) -> str:
        """What to call it."""
        return str(self.place) if isinstance(self.place, Place) else STREAM


@dataclass(frozen=True)
class Task:
    """One image and what is to be made of it, from one encoding. frames: how many are rendered, 1 of a still."""

    source: Source
    header: Header
    frames: int
    outputs: tuple[Output, ...]

    @property
    def pixels(self) -> int:
        """Pixels of all its outputs together."""
        return self.frames * sum(output.grid.shape[0] * output.grid.shape[1] for output in self.outputs)

    @property
    def names(self) -> list[str]:
        """What its outputs are called."""
        return [output.name for output in self.outputs]

    def ready(self) -> "Task":
        """Itself: see `Deferred.ready`."""
        return self


@dataclass(frozen=True)
class Deferred:
    """An image in a store and the places of its outputs: all that is known of it before it is read. replaced: those of the
    places where an earlier run's output is to be replaced."""

    source: Source
    options: Options
    outputs: tuple[tuple[Target, Place | BinaryIO, Format], ...]
    replaced: frozenset[Place] = frozenset()
    pixels = 0
    """Not known yet."""

    @property
    def names(self) -> list[str]:
        """What its outputs are called."""
        return [str(place) if isinstance(place, Place) else STREAM for _, place, _ in self.outputs]

    def ready(self) -> Task:
        """The task, with all of the object at hand. Raises `InputError`, `UsageError`, `LimitError`."""
        image = _image(self.source.fetched(), self.options)
        return replace(image, outputs=self.outputs, replaced=self.replaced).task()


@dataclass(frozen=True)
class Work:
    """All that a call is to do.

    tasks: each with an output at least. failures: (input, error) of images that cannot be done. skipped: outputs that are
    there already. make_folders: whether missing folders of outputs are to be created. notes: sentences for
    the user.
    """

    tasks: tuple[Task | Deferred, ...]
    failures: tuple[tuple[str, Exception], ...] = ()
    skipped: tuple[Place, ...] = ()
    make_folders: bool = False
    notes: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        """Images, those included that cannot be done."""
        return len(self.tasks) + len(self.failures)

    @property
    def lone(self) -> bool:
        """Whether one image is all there is; those that were skipped count."""
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
    """Decide everything about every image: its header, and of each output the grid, the format and the place.

    stream: where the output goes if `naming` says so. manifest: what it records as made, and is there, is skipped; what it
    records and has changed is replaced; what it does not know and is there is skipped if it is of an earlier run. defer: read
    no header now, wherever the images are. failures: inputs that are known to be none, for `Work.failures`.
    Each header is read once, and none if all outputs of an image are skipped. Outputs that cannot be made stop only their
    image. Raises what concerns the whole call: `UsageError` when two outputs would be one file, an output the input of
    another image, or the options do not suit a format; `OutputError` when an output exists or its folder cannot be written.
    """
    named, unnamed, notes = _named(sources, targets, naming, options, stream)
    make_folders = naming.kind in ("file", "folder", "template")
    _check_formats(named, options)
    skipped: list[Place] = []
    if skip_existing or manifest is not None:
        named, skipped = _without_existing(named, manifest, skip_existing, options.save.overwrite)
    looked = skip_existing or (manifest is not None and manifest.earlier)  # at all of them: what is left is not there
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
    """The task of one image to each (target, path). Raises what `resolve` raises, and what is wrong with the image."""
    image = _image(source, options)
    image = replace(
        image, outputs=tuple((target, path, format_of(path, options.save.format)) for target, path in outputs)
    )
    _check_formats([image], options)
    check_places(image.places(), options.save.overwrite)
    return image.task()


@dataclass(frozen=True)
class _Image:
    """A source on its way to a task. header and grid: what is found out about it, once, when it is first needed."""

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
        """All that is left to find out. Raises `InputError`, `UsageError`, `LimitError`."""
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
    """The images with their outputs' places and formats, those that could not be named, with the reason, and notes.

    Images that were found, not named by the user, and are outputs of this very call are left out.
    """
    images, failures = list[_Image](), list[tuple[str, LiifError]]()
    notes: tuple[str, ...] = ()
    for source in sources:
        try:
            images.append(_placed(_image(source, options), targets, naming, stream))
        except LiifError as error:
            if naming.kind == "beside" and source.path is None:
                raise
            failures.append((source.name, error))
    made = {_key(place) for image in images for place in image.places()}
    images = [
        each for each in images if not (each.source.found and each.source.path and _key(each.source.path) in made)
    ]
    if naming.kind in ("beside", "folder"):
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
    """The image with its outputs' places and formats. Raises what `Naming.path` raises."""
    places = [
        stream or naming.path(image.source, target, partial(image.grid, target), with_suffix) for target in targets
    ]
    forms = [format_of(place if isinstance(place, Place) else None, image.options.save.format) for place in places]
    return replace(image, outputs=tuple(zip(targets, places, forms, strict=True)))


def _alike(images: Sequence[_Image]) -> list[Source]:
    """The sources that share an output with another of another suffix: `a.jpg` and `a.png`."""
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
    return (f"{len(shown)} inputs differ only in their suffix, which their outputs' names therefore tell: {shown[0]}",)


def _check_distinct(images: Sequence[_Image]) -> None:
    origin: dict[str, Source] = {}
    for image in images:
        own = [_key(place) for place in image.places()]
        for key, place in zip(own, image.places(), strict=True):
            if (other := origin.setdefault(key, image.source)) is not image.source:
                raise UsageError(
                    f"{other.name} and {image.source.name} would both be written to {place}",
                    hint="name a folder, which keeps the tree, or a template that tells them apart",
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
    """The same for two names of one file, as the system's usual file systems compare them; stores tell all names apart."""
    if isinstance(path, Address):
        return path.full
    name = os.path.normcase(path.parent.resolve() / path.name)
    return name.casefold() if sys.platform == "darwin" else name


def _check_formats(images: Iterable[_Image], options: Options) -> None:
    """Options that a format does not have are refused once, not for every image. Raises `UsageError`."""
    for form in {form.name: form for image in images for _, _, form in image.outputs}.values():
        check_options(form, options.save)


def _without_existing(
    images: Sequence[_Image], manifest: Manifest | None, skip_existing: bool, overwrite: bool
) -> tuple[list[_Image], list[Place]]:
    """The images less the outputs that are there already, and those outputs. A manifest has the first word."""
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
    """Before any work: `OutputError` when an output is there and may not be replaced, or its folder cannot be written."""
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
    """The image's task, or why there is none."""
    if image.source.remote or defer:
        return Deferred(image.source, image.options, image.outputs, image.replaced)
    try:
        return image.task()
    except Exception as error:  # whatever a decoder raises stops only its image
        return error


def _each(
    find: Callable[[_Image], Task | Deferred | Exception], images: Sequence[_Image]
) -> list[Task | Deferred | Exception]:
    """`find` of every image, in order, several at a time."""
    pool = ThreadPoolExecutor(PROBES, "liif-probe")
    try:
        return list(pool.map(find, images))
    finally:
        pool.shutdown(cancel_futures=True)
