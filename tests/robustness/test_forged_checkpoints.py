"""Checkpoints that claim more than they hold, and 200 that were mutated."""

import io
import json
import pickle
import resource
import struct
import time
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from robustness.campaign import judge
from robustness.checkpoints import CHECKPOINTS, mutated, seeds
from safetensors.torch import save

from liif_cli.cli.models import _row
from liif_cli.errors import CheckpointError
from liif_cli.models import store
from liif_cli.models.checkpoints import count_parameters, is_ours
from liif_cli.models.convert import convert
from liif_cli.models.describe import describe
from liif_cli.models.foreign import understand
from liif_cli.models.pickles import MAX_PICKLE


@pytest.fixture(autouse=True)
def bounded() -> Any:
    """Every file within seconds and some MiB, where it once took minutes or all memory."""
    start, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert time.process_time() - start < 15
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400 * 1024


@pytest.mark.parametrize("first", range(0, 200, 50))
def test_mutated_checkpoints_are_loaded_or_refused(first: int) -> None:
    files = seeds()
    verdicts = [judge(CHECKPOINTS, mutated(seed, files)[1]) for seed in range(first, first + 50)]
    assert [verdict for verdict in verdicts if not verdict.startswith(("made", "refused: CheckpointError"))] == []
    assert any(verdict == "made" for verdict in verdicts) and len(set(verdicts)) > 1


def test_the_healthy_ones_are_loaded_or_converted() -> None:
    """The pickles too, though they are named as safetensors are."""
    verdicts = {name: judge(CHECKPOINTS, data) for name, data in seeds()}
    assert {name for name, verdict in verdicts.items() if verdict != "made"} == {"plain pickle"}


def altered(path: Path, to: Path, change: object) -> Path:
    """The checkpoint with a changed header."""
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    head = json.loads(data[8 : 8 + size])
    change(head, len(data) - 8 - size)  # type: ignore[operator]
    return raw(to, json.dumps(head), data[8 + size :])


def raw(path: Path, head: str, rest: bytes = b"") -> Path:
    path.write_bytes(struct.pack("<Q", len(head)) + head.encode() + rest)
    return path


def test_an_unknown_tensor_is_refused_before_any_is_read(tiny_file: Path, tmp_path: Path) -> None:
    def claim(head: dict[str, object], end: int) -> None:
        head["zzz"] = {"dtype": "F16", "shape": [3 * 2**29], "data_offsets": [end, end + 3 * 2**30]}

    path = altered(tiny_file, tmp_path / "sparse.safetensors", claim)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size + 3 * 2**30)
    with pytest.raises(CheckpointError, match="zzz"):
        store.load_model(path)


def test_a_config_of_more_layers_than_tensors_is_refused_at_once(shared: Path) -> None:
    with pytest.raises(CheckpointError):
        store.load_model(shared / "review/hostile/24-checkpoint-deep-config/rdn.safetensors")


@pytest.mark.parametrize(
    "head", [{"__metadata__": None}, {"a": {"dtype": "F32"}}, {"a": None}, {"a": {"shape": ["x"]}}]
)
def test_a_strange_header_in_the_cache_is_passed_over(tmp_path: Path, head: dict[str, object]) -> None:
    path = raw(tmp_path / "a.safetensors", json.dumps(head))
    assert not is_ours(path)
    assert count_parameters(path) == 0


def test_integers_of_many_digits_are_not_multiplied(tmp_path: Path) -> None:
    """Their product would have a million digits, and more than Python prints."""
    large = ", ".join(["9" * 4000] * 300)
    head = f'{{"a": {{"shape": [{large}]}}, "b": {{"shape": [2, 3]}}}}'
    assert count_parameters(raw(tmp_path / "a.safetensors", head)) == 6


def described(path: Path, **changed: Any) -> Path:
    """A checkpoint of a tiny model whose own header has other values; text stands for itself."""
    name, data = seeds()[0]
    assert name == "edsr-liif"

    def change(head: dict[str, Any], _: int) -> None:
        own = json.loads(head["__metadata__"]["liif"]) | changed
        head["__metadata__"]["liif"] = json.dumps(own).replace('"DIGITS"', "9" * 5000).replace('"LARGE"', "1e999")

    path.write_bytes(data)
    return altered(path, path, change)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "DIGITS", "LARGE", 10**400])
@pytest.mark.parametrize("where", ["mean", "std", "residual_scale"])
def test_what_is_no_number_in_a_config_is_refused(tmp_path: Path, where: str, value: object) -> None:
    config = describe(str(described(tmp_path / "a.safetensors")))["model"]
    if where == "residual_scale":
        config["encoder"][where] = value
    else:
        config[where] = [0.5, value, 0.5]
    with pytest.raises(CheckpointError):
        store.load_model(described(tmp_path / "b.safetensors", model=config))


@pytest.mark.parametrize(
    "scores",
    [3, [1], "text", {"set5": 3}, {"set5": {"2": "x"}}, {"set5": {"2": [1]}}, {"set5": {"nan": 1, "2": float("nan")}}],
)
def test_scores_that_are_none_are_left_out(tmp_path: Path, scores: object) -> None:
    provenance = {"published_psnr": scores, "validation_psnr": {"2": 30.5, "3": 10**400, "four": 1}}
    path = described(tmp_path / "a.safetensors", provenance=provenance)
    assert describe(str(path))["scores"] == {"validation": {"2": 30.5}}
    assert "x2 30.50" in " ".join(_row(store._entry("a", path, "cached")))
    assert json.dumps(describe(str(path)), allow_nan=False)


def test_a_config_of_many_faults_is_refused_in_one_short_sentence(tmp_path: Path) -> None:
    model = {"decoder": {"name": "liif", "hidden": [9999] * 100_000, "x" * 3000: 1}}
    with pytest.raises(CheckpointError, match="more") as error:
        store.load_model(described(tmp_path / "a.safetensors", model=model))
    assert len(str(error.value)) < 2500


# Other projects' files


def refused(path: Path, content: bytes, says: str) -> None:
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=says):
        convert(path, path.with_suffix(".safetensors"))
    assert not path.with_suffix(".safetensors").exists()


def in_archive(body: bytes, how: int = zipfile.ZIP_STORED) -> bytes:
    """An archive of PyTorch's kind whose content is the pickle `body`."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", how) as archive:
        archive.writestr("archive/data.pkl", body)
        archive.writestr("archive/version", b"3\n")
    return file.getvalue()


LAUGHS = b"\x80\x02}N" + b"".join(b"q%ch%c\x86" % (i, i) for i in range(60)) + b"K\0s."
"""A dictionary whose key is a tuple of a tuple twice, 60 times over: its hash takes 2^60 steps."""
DEEP = b"\x80\x02}N" + b"\x85" * 200_000 + b"K\0s."
"""A key in 200,000 tuples, which a hash goes down by recursion in C: more than a stack of 8 MiB holds."""
ITSELF = b"\x80\x02]q\0h\0a."
SHARED = b"\x80\x02}X\x05\0\0\0model" + b"N" + b"".join(b"q%c]h%cah%ca" % (i, i, i) for i in range(60)) + b"s."
"""A value, not a key, that a message would write out."""
INTEGER = b"\x80\x02}\x8b" + struct.pack("<i", 10_000) + b"\x7f" * 10_000 + b"Ns."


@pytest.mark.parametrize("body", [LAUGHS, DEEP, ITSELF, SHARED], ids=["laughs", "deep", "itself", "shared"])
@pytest.mark.parametrize("archived", [True, False])
def test_a_pickle_that_unfolds_is_refused_unbuilt(tmp_path: Path, body: bytes, archived: bool) -> None:
    refused(tmp_path / "a.pth", in_archive(body) if archived else body, "unfolds|nests")


def test_an_integer_that_python_does_not_print_is_refused(tmp_path: Path) -> None:
    refused(tmp_path / "a.pth", in_archive(INTEGER), "128 bits")


def test_a_pickle_of_many_operations_is_refused_unread(tmp_path: Path) -> None:
    refused(tmp_path / "a.pth", in_archive(b"\x80\x02" + b"N0" * MAX_PICKLE + b"}."), "more than 4 MiB")


def test_a_compressed_archive_is_refused(tmp_path: Path) -> None:
    refused(tmp_path / "a.pth", in_archive(pickle.dumps({}, 2), zipfile.ZIP_DEFLATED), "compressed")


def test_members_that_lie_on_one_another_are_refused(tmp_path: Path) -> None:
    """As often as the directory names it, a member would be read."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}, 2))
        archive.writestr("archive/data/0", bytes(2**20))
        archive.filelist += [archive.filelist[-1]] * 100
    refused(tmp_path / "a.pth", file.getvalue(), "overlap")


def test_tensors_that_share_their_numbers_are_refused(tmp_path: Path) -> None:
    one = torch.zeros(2**20, dtype=torch.float16)
    tensors = {f"imnet.layers.{2 * i}.weight": one.view(2**10, 2**10) for i in range(200)}
    encoder = {f"encoder.{name}.weight": torch.zeros(4, 3, 3, 3) for name in ("head.0", "body.0.body.0")}
    file = io.BytesIO()
    torch.save(tensors | encoder, file)
    refused(tmp_path / "a.pth", file.getvalue(), "share data")


def many_names(first: str, count: int) -> dict[str, torch.Tensor]:
    """A model whose mean shift, EDSR's, comes `count` times."""
    prefix, nothing = first.partition("head")[0], torch.zeros(0)
    tensors = {f"{prefix}sub_mean.{i}": nothing.clone() for i in range(count)}
    known = {first: torch.zeros(4, 3, 3, 3), "imnet.layers.0.weight": torch.zeros(4, 40), "tail.0.0.weight": nothing}
    return tensors | known


def test_the_time_for_a_file_grows_with_the_number_of_its_names(tmp_path: Path) -> None:
    """Each name was once looked for among all others."""
    refused(tmp_path / "a.safetensors.pt", save(many_names("encoder.head.0.weight", 20_000)), "a.safetensors.pt")


@pytest.mark.parametrize("first", ["encoder.head.0.weight", "head.0.weight"])
def test_the_time_for_names_grows_with_their_number(first: str) -> None:
    tensors, start = many_names(first, 60_000), time.process_time()
    with suppress(CheckpointError):
        understand(tensors, "a.pt")
    assert time.process_time() - start < 3
