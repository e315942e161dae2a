"""What is on this machine: `liif doctor`, completion."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from liif_cli import __version__

Run = Callable[..., Any]


def test_doctor_says_why_a_gpu_is_or_is_not_used(liif: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("LIIF_DEVICE", "cpu")
    found = json.loads(liif("doctor", "--json").out[0])
    assert not [section for section in found.values() if "broken" in section]
    assert found["liif"]["version"] == __version__ and found["libraries"]["torch"] == torch.__version__
    assert found["device"]["cuda"].startswith("used" if torch.cuda.is_available() else "not used: ")
    assert found["settings"]["HF_TOKEN"] == "set" and found["settings"]["LIIF_DEVICE"] == "cpu"
    text = "\n".join(liif("doctor").out)
    assert "secret" not in text and str(Path.home()) not in text


class _Torch:
    """As much of torch as the reason needs."""

    class version:
        cuda: str | None = None
        hip: str | None = None

    class cuda:
        @staticmethod
        def is_available() -> bool:
            return False

        @staticmethod
        def init() -> None:
            raise RuntimeError("Found no NVIDIA driver\n on your system")


def test_downloads_show_no_progress_where_nobody_watches(liif: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "0")
    liif("models")
    assert os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] == "1"


def test_the_reasons_for_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    from liif_cli.cli.doctor import cuda_reason

    assert "built without CUDA" in cuda_reason(_Torch)
    monkeypatch.setattr(_Torch.version, "cuda", "13.0")
    assert cuda_reason(_Torch) == "not used: PyTorch is built for CUDA 13.0, but Found no NVIDIA driver on your system"
    monkeypatch.setattr(_Torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(_Torch.cuda, "device_count", lambda: 1, raising=False)
    monkeypatch.setattr(_Torch.cuda, "get_device_name", lambda index: "H200", raising=False)
    assert cuda_reason(_Torch) == "used: CUDA 13.0, H200"


def test_doctor_survives_a_broken_installation(liif: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise OSError("libvips.so: cannot open")

    monkeypatch.setattr("liif_cli.cli.doctor._libvips", broken)
    ran = liif("doctor")
    assert ran.code == 0 and "  broken: OSError: libvips.so: cannot open" in ran.out


def test_completion_knows_commands_options_models_and_words(liif: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("liif_cli.models.store.names", lambda: ["edsr-a", "edsr-b", "rdn-c"])

    def offered(*words: str) -> list[str]:
        monkeypatch.setenv("_LIIF_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", " ".join(["liif", *words]))
        monkeypatch.setenv("COMP_CWORD", str(len(words)))
        return [line for line in liif().out if line]

    assert "upscale" in offered("up")
    assert offered("upscale", "-m", "edsr") == ["edsr-a", "edsr-b"]
    assert offered("upscale", "--device", "c") == ["cpu", "cuda"]
    assert "--skip-existing" in offered("upscale", "--sk")
