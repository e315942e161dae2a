"""Native bf16 is found by every way there is, and never guessed."""

import pytest
import torch

from liif_cli.machine import precision


@pytest.fixture(autouse=True)
def no_limits(monkeypatch):
    for name in precision.LIMITS:
        monkeypatch.delenv(name, raising=False)


def test_answers_on_this_machine():
    flags = precision._linux_flags(precision.CPU_FLAGS)
    if flags:
        assert precision.fast_bf16_cpu() == any(flags.get(name, False) for name in precision.NATIVE_BF16)
    else:
        assert precision.fast_bf16_cpu() in (True, False)


def test_either_instruction_set_is_enough(monkeypatch):
    for found, answer in (({"amx_bf16": True}, True), ({"avx512_bf16": True, "amx_bf16": False}, True), ({}, False)):
        monkeypatch.setattr(precision, "_capabilities", lambda found=found: found)
        assert precision.fast_bf16_cpu() is answer


def test_fp16_counts_only_on_its_own_matrix_unit(monkeypatch):
    for found, answer in (
        ({"amx_fp16": True}, True),
        ({"avx512_fp16": True, "amx_bf16": True, "amx_tile": True}, False),
    ):
        monkeypatch.setattr(precision, "_capabilities", lambda found=found: found)
        assert precision.fast_fp16_cpu() is answer


@pytest.mark.parametrize("name", precision.LIMITS)
def test_what_onednn_must_not_use_does_not_count(monkeypatch, name):
    monkeypatch.setattr(precision, "_capabilities", lambda: {"avx512_bf16": True, "amx_bf16": True, "amx_fp16": True})
    for limit, bf16, fp16 in (
        ("AVX2", False, False),
        ("avx512_core", False, False),
        ("AVX512_CORE_BF16", True, False),
        ("AVX512_CORE_AMX", True, False),
        ("AVX512_CORE_AMX_FP16", True, True),
        ("ALL", True, True),
        ("no such thing", True, True),
    ):
        monkeypatch.setenv(name, limit)
        assert (precision.fast_bf16_cpu(), precision.fast_fp16_cpu()) == (bf16, fp16), limit


def test_avx2_and_other_reduced_formats_do_not_count(monkeypatch):
    monkeypatch.setattr(
        precision, "_capabilities", lambda: {"avx2": True, "avx512_f": True, "bf16": True, "amx_tile": True}
    )
    assert not precision.fast_bf16_cpu()


def test_linux_flags_stand_in_for_a_missing_call(monkeypatch, tmp_path):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    cpuinfo = tmp_path / "cpuinfo"
    monkeypatch.setattr(precision, "CPU_FLAGS", cpuinfo)
    assert not precision.fast_bf16_cpu()
    cpuinfo.write_text("processor\t: 0\nflags\t\t: fpu avx512f avx512_bf16\nprocessor\t: 1\nflags\t\t: fpu\n")
    assert precision.fast_bf16_cpu()
    cpuinfo.write_text("flags\t\t: fpu avx2 avx512f\n")
    assert not precision.fast_bf16_cpu()


def test_without_onednn_there_is_no_fast_bf16(monkeypatch):
    monkeypatch.setattr(precision, "_capabilities", lambda: {"amx_bf16": True, "amx_fp16": True})
    monkeypatch.setattr("torch.backends.mkldnn.is_available", lambda: False)
    assert not precision.fast_bf16_cpu()
    assert not precision.fast_fp16_cpu()
