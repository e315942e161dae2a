"""Where outputs go."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from liif_cli.errors import LiifError, OutputError, UsageError
from liif_cli.rendering.sizes import Region, Scale, Size
from liif_cli.upscaling.inputs import Source
from liif_cli.upscaling.jobs import check_outputs, plan, without_existing
from liif_cli.upscaling.output_names import Job, Naming

X4, FULL = Scale.parse("4"), Size.parse("1920x1080")


@pytest.fixture(autouse=True)
def picture(desk: Path) -> None:
    """a.jpg, 30 x 20 pixels."""
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save("a.jpg")


def named(
    output: str | None, *targets: Any, source: Source | None = None, many: bool = False, **options: Any
) -> list[str]:
    job = Naming(output, many, **options).job(source or Source(Path("a.jpg")), targets or (X4,))
    return [Path(str(path)).as_posix() for _, path in job.outputs]


def test_beside_the_input_by_default() -> None:
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
    assert named("new", format="png") == ["new"]  # one output, a format: a file without suffix
    with pytest.raises(UsageError, match="neither a folder nor a file") as caught:
        named("new")
    assert caught.value.hint == "new.png, or new/ for a folder that is to be made"
    with pytest.raises(UsageError, match=r"would all go to out\.png"):
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
def test_templates_that_make_no_sense(template: str) -> None:
    with pytest.raises(UsageError) as caught:
        named(template)
    assert caught.value.hint


def planned(naming: Naming, *sources: Source, targets: Any = (X4,)) -> tuple[list[Job], list[tuple[str, LiifError]]]:
    return plan(naming, sources, targets)


def test_two_inputs_that_would_write_one_output_are_refused() -> None:
    with pytest.raises(UsageError, match=r"a\.jpg and .*a\.png would both be written to a_4x\.png"):
        planned(Naming(None, True), Source(Path("a.jpg")), Source(Path("a.png")))
    with pytest.raises(UsageError, match="both"):
        planned(Naming("out/x/../{scale}.png", True), Source(Path("a.jpg")), Source(Path("b.jpg")))
    with pytest.raises(UsageError, match=r"several sizes of a\.jpg"):
        planned(Naming("{stem}.png", True), Source(Path("a.jpg")), targets=(X4, FULL))


def test_an_output_may_not_replace_another_input() -> None:
    with pytest.raises(UsageError, match=r"would replace a_4x\.png, which is an input"):
        planned(Naming(None, True), Source(Path("a.jpg")), Source(Path("a_4x.png")))


def test_outputs_of_a_run_before_are_not_taken_for_inputs() -> None:
    found = [Source(Path(name), found=True) for name in ("a.jpg", "a_4x.png", "b_2x.png")]
    jobs, failures = planned(Naming(None, True), *found)
    assert [job.source.name for job in jobs] == ["a.jpg", "b_2x.png"] and not failures


def test_a_picture_whose_size_cannot_be_read_stops_nothing() -> None:
    Path("broken.png").write_bytes(b"no")
    jobs, failures = planned(
        Naming("{stem}_{width}.png", True), Source(Path("a.jpg")), Source(Path("broken.png")), Source(Path("gone.png"))
    )
    assert [job.source.name for job in jobs] == ["a.jpg"]
    assert [name for name, _ in failures] == ["broken.png", "gone.png"]


def test_existing_outputs_are_refused_before_work_or_skipped() -> None:
    jobs = [Job(Source(Path("a.jpg")), ((X4, Path("x.png")), (FULL, Path("y.png"))))]
    check_outputs(jobs, False, make_folders=False)
    Path("x.png").touch()
    with pytest.raises(OutputError, match=r"x\.png exists"):
        check_outputs(jobs, False, make_folders=False)
    check_outputs(jobs, True, make_folders=False)
    left, skipped = without_existing(jobs)
    assert left == [Job(jobs[0].source, ((FULL, Path("y.png")),))] and skipped == [Path("x.png")]
    Path("y.png").touch()
    assert without_existing(jobs)[0] == []
    with pytest.raises(OutputError, match="1 more outputs exist"):
        check_outputs(jobs, False, make_folders=False)


def test_folders_that_are_missing_or_impossible() -> None:
    deep = [Job(Source(Path("a.jpg")), ((X4, Path("new/deep/x.png")),))]
    check_outputs(deep, False, make_folders=True)
    with pytest.raises(OutputError, match="does not exist"):
        check_outputs(deep, False, make_folders=False)
    under_a_file = [Job(Source(Path("a.jpg")), ((X4, Path("a.jpg/x/y.png")),))]
    with pytest.raises(OutputError, match="cannot be created"):
        check_outputs(under_a_file, False, make_folders=True)
