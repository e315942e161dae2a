"""Checkpoints that claim more than they hold."""

import json
import struct
import time
from pathlib import Path

import pytest

from liif_cli.errors import CheckpointError
from liif_cli.models import store
from liif_cli.models.checkpoints import count_parameters, is_ours


def altered(path: Path, to: Path, change: object) -> Path:
    """The checkpoint with a changed header."""
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    head = json.loads(data[8 : 8 + size])
    change(head, len(data) - 8 - size)  # type: ignore[operator]
    text = json.dumps(head).encode()
    to.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size :])
    return to


def test_an_unknown_tensor_is_refused_before_any_is_read(tiny_file: Path, tmp_path: Path) -> None:
    def claim(head: dict[str, object], end: int) -> None:
        head["zzz"] = {"dtype": "F16", "shape": [3 * 2**29], "data_offsets": [end, end + 3 * 2**30]}

    path = altered(tiny_file, tmp_path / "sparse.safetensors", claim)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size + 3 * 2**30)
    start = time.process_time()
    with pytest.raises(CheckpointError, match="zzz"):
        store.load_model(path)
    assert time.process_time() - start < 5


def test_a_config_of_more_layers_than_tensors_is_refused_at_once(shared: Path) -> None:
    start = time.process_time()
    with pytest.raises(CheckpointError):
        store.load_model(shared / "review/hostile/24-checkpoint-deep-config/rdn.safetensors")
    assert time.process_time() - start < 5


@pytest.mark.parametrize(
    "head", [{"__metadata__": None}, {"a": {"dtype": "F32"}}, {"a": None}, {"a": {"shape": ["x"]}}]
)
def test_a_strange_header_in_the_cache_is_passed_over(tmp_path: Path, head: dict[str, object]) -> None:
    text = json.dumps(head).encode()
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    assert not is_ours(path)
    assert count_parameters(path) == 0
