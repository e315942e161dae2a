"""The destinations of outputs."""

from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from liif_cli.errors import OutputError, UsageError
from liif_cli.images import read as images
from liif_cli.images.write import SaveOptions
from liif_cli.rendering.sizes import Region, Scale, Size
from liif_cli.upscaling.inputs import Source
from liif_cli.upscaling.jobs import Work, resolve
from liif_cli.upscaling.options import Options
from liif_cli.upscaling.output_names import Naming

X4, FULL = Scale.parse("4"), Size.parse("1920x1080")


@pytest.fixture(autouse=True)
def image(desk: Path) -> None:
    """a.jpg, 30 x 20 pixels."""
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save("a.jpg")


def resolved(naming: Naming, *sources: Source, targets: Any = (X4,), **more: Any) -> Work:
    """What is decided for sources; `more`: options, or arguments of `resolve`."""
    options = {name: more.pop(name) for name in ("region", "save") if name in more}
    return resolve(sources, targets, naming, Options(**options), **more)


def named(
    output: str | None,
    *targets: Any,
    source: Source | None = None,
    many: bool = False,
    region: Region | None = None,
    **more: Any,
) -> list[str]:
    naming, options = Naming.parse(output, many, **more), Options(region=region)
    size, source = (20, 30), source or Source(Path("a.jpg"))
    paths = [
        naming.path(source, target, lambda target=target: options.grid(size, target)) for target in targets or (X4,)
    ]
    return [path.as_posix() for path in paths]


def test_next_to_the_input_by_default() -> None:
    assert named(None, X4, Scale.parse("2x3.5"), FULL, Size.parse("60x")) == [
        "a_4x.png",
        "a_2x3.5x.png",
        "a_1920x1080.png",
        "a_60x40.png",
    ]
    assert named(None, source=Source(Path("sub/b.webp"))) == ["sub/b_4x.png"]
    assert named(None, format="jpeg") == ["a_4x.jpg"]
    assert named(None, Size.parse("60x"), region=Region(0, 0, 10, 5)) == ["a_60x30.png"]
    assert named(None, Size.parse("60x60", "contain")) == ["a_60x40.png"]
    assert named(None, FULL, source=Source(Path("unread.png"))) == ["unread_1920x1080.png"]


def test_a_file_a_folder_and_what_is_which() -> None:
    Path("there").mkdir()
    assert named("out.webp") == ["out.webp"]
    assert named("there") == ["there/a_4x.png"]
    assert named("new/") == ["new/a_4x.png"]
    assert named("new", many=True) == ["new/a_4x.png"]
    assert named("new.d", many=True) == ["new.d/a_4x.png"]
    assert named("new", format="png") == ["new/a_4x.png"]  # a folder for one as for many
    Path("pipe").touch()
    assert named("pipe", format="png") == ["pipe"]  # what is there, such as /dev/stdout, stays a file
    with pytest.raises(UsageError, match="neither a folder nor a file") as caught:
        named("new")
    assert caught.value.hint == "use new.png for a file, or new/ for a new folder"
    with pytest.raises(UsageError, match=r"would all be written to out\.png"):
        named("out.png", many=True)


def test_the_tree_is_kept_under_a_folder() -> None:
    assert named("out", many=True, source=Source(Path("pics/x/b.png"), Path("x"), True)) == ["out/x/b_4x.png"]


def test_templates() -> None:
    assert named("{stem}-{scale}.{ext}", Scale.parse("7.5")) == ["a-7.5.jpg"]
    assert named("{width}x{height}/{stem}.png", X4, FULL) == ["120x80/a.png", "1920x1080/a.png"]
    assert named("{stem}_{scale}.png", Size.parse("45x")) == ["a_1.5.png"]
    assert named("{stem}_{width:05d}.png") == ["a_00120.png"]
    assert named("{model}.png", model=lambda: "owner/repo") == ["owner-repo.png"]
    assert named("{{{stem}}}.png") == ["{a}.png"]
    assert named("{stem}.{ext}", format="webp") == ["a.webp"]
    assert named("{stem}.{ext}", source=Source(Path("b.heic"))) == ["b.png"]  # HEIC is not written
    assert named("{width}.png", region=Region(0, 0, 10, 5)) == ["40.png"]


def test_the_model_is_looked_for_only_where_its_name_is_wanted() -> None:
    def fail() -> str:
        raise AssertionError

    assert named("{stem}.png", model=fail) == ["a.png"]


@pytest.mark.parametrize("template", ["{stme}.png", "{}.png", "{0}.png", "{stem.name}.png", "{stem", "a}{stem}"])
def test_invalid_templates(template: str) -> None:
    with pytest.raises(UsageError) as caught:
        named(template)
    assert caught.value.hint


def test_two_inputs_that_would_write_one_output_are_refused() -> None:
    with pytest.raises(UsageError, match=r"a\.jpg and .*a\.png would both be written to a\.png"):
        resolved(Naming.parse("{stem}.png", True), Source(Path("a.jpg")), Source(Path("a.png")))
    with pytest.raises(UsageError, match=r"a\.jpg and .*a\.jpg would both be written to out.a_4x\.png"):
        resolved(Naming.parse("out", True), Source(Path("a.jpg")), Source(Path("sub/a.jpg")))
    with pytest.raises(UsageError, match="both"):
        resolved(Naming.parse("out/x/../{scale}.png", True), Source(Path("a.jpg")), Source(Path("b.jpg")))
    with pytest.raises(UsageError, match=r"several sizes of a\.jpg"):
        resolved(Naming.parse("{stem}.png", True), Source(Path("a.jpg")), targets=(X4, FULL))


@pytest.mark.parametrize(("output", "folder"), [(None, ""), ("out", "out/")])
def test_inputs_that_differ_only_in_suffix_get_outputs_that_differ(output: str | None, folder: str) -> None:
    for name in ("a.PNG", "b.png"):
        Image.new("RGB", (4, 4)).save(name)
    sources = [Source(Path(name), found=True) for name in ("a.PNG", "a.jpg", "b.png")]
    work = resolved(Naming.parse(output, True), *sources, targets=(X4, Scale.parse("2")))
    outputs = [Path(each.name).as_posix() for task in work.tasks for each in task.outputs]
    stems = ("a_png", "a_jpg", "b")
    assert outputs == [f"{folder}{stem}_{scale}x.png" for stem in stems for scale in (4, 2)]
    [note] = work.notes
    assert note.startswith("2 inputs differ only in their suffix") and note.endswith("a.PNG becomes a_png_4x.png")
    assert not resolved(Naming.parse(None, True), *sources[1:]).notes


def test_an_output_may_not_replace_another_input() -> None:
    with pytest.raises(UsageError, match=r"would replace a_4x\.png, which is an input"):
        resolved(Naming.parse(None, True), Source(Path("a.jpg")), Source(Path("a_4x.png")))


def test_outputs_of_a_run_before_are_not_taken_for_inputs() -> None:
    found = [Source(Path(name), found=True) for name in ("a.jpg", "a_4x.png", "b_2x.png")]
    for source in found:
        Image.new("RGB", (4, 4)).save(source.name)
    work = resolved(Naming.parse(None, True), *found, save=SaveOptions(overwrite=True))
    assert [task.source.name for task in work.tasks] == ["a.jpg", "b_2x.png"] and not work.failures


def test_an_image_whose_size_cannot_be_read_stops_nothing() -> None:
    Path("broken.png").write_bytes(b"no")
    for template in ("{stem}_{width}.png", "{stem}_x.png"):
        naming = Naming.parse(template, True)
        work = resolved(naming, *(Source(Path(name)) for name in ("a.jpg", "broken.png", "gone.png")))
        assert [task.source.name for task in work.tasks] == ["a.jpg"]
        assert [name for name, _ in work.failures] == ["broken.png", "gone.png"]


def test_existing_outputs_are_refused_before_work_or_skipped() -> None:
    naming, targets = Naming.parse("{width}.png", True), (X4, FULL)
    for name, there in (("120.png", r"120\.png exists"), ("1920.png", "1 more outputs exist")):
        Path(name).touch()
        with pytest.raises(OutputError, match=there):
            resolved(naming, Source(Path("a.jpg")), targets=targets)
        work = resolved(naming, Source(Path("a.jpg")), targets=targets, skip_existing=True)
        assert [path.name for path in work.skipped] == ["120.png", "1920.png"][: len(work.skipped)]
        assert [output.name for task in work.tasks for output in task.outputs] == ["1920.png"][len(work.skipped) - 1 :]
    work = resolved(naming, Source(Path("a.jpg")), targets=targets, save=SaveOptions(overwrite=True))
    assert [output.name for output in work.tasks[0].outputs] == ["120.png", "1920.png"]


def test_folders_that_are_missing_or_impossible() -> None:
    resolved(Naming.parse("new/deep/x_{scale}.png", False), Source(Path("a.jpg")))
    resolved(Naming.parse("new/deep/x.png", False), Source(Path("a.jpg")))
    with pytest.raises(OutputError, match="cannot create"):
        resolved(Naming.parse("a.jpg/x/y_{scale}.png", False), Source(Path("a.jpg")))
    assert not Path("new").exists()


def test_all_of_an_output_is_decided() -> None:
    animation = [Image.new("RGB", (30, 20), colour) for colour in ("red", "blue")]
    animation[0].save("b.gif", save_all=True, append_images=animation[1:])
    work = resolved(
        Naming.parse("{stem}_{width}.webp", True), Source(Path("b.gif")), targets=(X4, FULL), region=Region(0, 0, 3, 4)
    )
    [task] = work.tasks
    assert (task.header.format, task.header.width, task.frames) == ("gif", 30, 2)
    assert [(output.name, output.format.name, output.grid.shape) for output in task.outputs] == [
        ("b_12.webp", "webp", (16, 12)),
        ("b_1920.webp", "webp", (1080, 1920)),
    ]
    assert task.pixels == 2 * (16 * 12 + 1080 * 1920)
    with pytest.raises(FrozenInstanceError):
        task.frames = 1  # type: ignore[misc]
    refused = resolved(
        Naming.parse("{stem}.jpg", True), Source(Path("b.gif")), Source(Path("a.jpg")), save=SaveOptions(overwrite=True)
    )
    assert [str(error) for _, error in refused.failures] == ["JPEG holds one image, but the animation has 2 frames"]


def test_nothing_is_read_of_an_image_that_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("a_4x.png").touch()
    monkeypatch.setattr(images, "probe", lambda *_, **__: pytest.fail("read"))
    work = resolved(Naming.parse(None, False), Source(Path("a.jpg")), skip_existing=True)
    assert not work.tasks and [path.name for path in work.skipped] == ["a_4x.png"]
