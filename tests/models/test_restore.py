"""One knob between a model and its counterpart for damaged images."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_models import golden_model, tiny_config

from liif_cli.coords import Axis
from liif_cli.errors import CheckpointError, UsageError
from liif_cli.models import restore
from liif_cli.models.checkpoints import save_model
from liif_cli.models.decoders.fourier import FourierConfig
from liif_cli.models.encoders.gated import GatedConfig
from liif_cli.models.model import SRModel
from liif_cli.models.registry import ModelConfig
from liif_cli.models.restore import between, counterpart, needed_counterpart, parse_restore, strength_for
from liif_cli.models.store import find


def other_of(model: SRModel) -> SRModel:
    """A model of the same architecture with other weights."""
    return SRModel.from_tensors(model.config, {name: 0.5 * t + 0.01 for name, t in model.export().items()}).eval()


def saved(model: SRModel, path: Path) -> Path:
    save_model(model, path, licence="CC0-1.0", provenance={})
    return path


def test_weights_lie_on_the_line_between_both(tiny: SRModel) -> None:
    photo = other_of(tiny)
    mixed = between(tiny, photo, 0.25)
    for name, tensor in mixed.export().items():
        torch.testing.assert_close(tensor, 0.75 * tiny.export()[name] + 0.25 * photo.export()[name])
    assert between(tiny, photo, 0) is tiny and between(tiny, photo, 1) is photo and not mixed.training


def test_a_deeper_counterpart_starts_where_its_model_is() -> None:
    torch.manual_seed(4)
    configs = [ModelConfig(GatedConfig(features=4, blocks=blocks), FourierConfig()) for blocks in (2, 4)]
    plain, deep = (SRModel(config).eval() for config in configs)
    for parameter in (*plain.parameters(), *deep.parameters()):
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    image, axis = torch.rand(1, 3, 6, 6), Axis.whole(6, 13)
    results = [
        model.render(model.encode(image), axis, axis)
        for model in (plain, *(between(plain, deep, s) for s in (1e-9, 1)))
    ]
    torch.testing.assert_close(results[1], results[0])
    assert not torch.allclose(results[2], results[0])
    assert between(plain, deep, 0.5).config == deep.config


def test_the_counterpart_lies_beside_its_model(tiny: SRModel, tmp_path: Path) -> None:
    found = find(saved(tiny, tmp_path / "mine.safetensors"))
    assert counterpart(found) is None
    with pytest.raises(UsageError, match=r"there is no mine-photo\.safetensors next to it"):
        needed_counterpart(found)
    saved(other_of(tiny), tmp_path / "mine-photo.safetensors")
    assert needed_counterpart(found).name == "mine-photo"
    saved(golden_model(tiny_config(hidden=(16, 8))), tmp_path / "mine-photo.safetensors")
    with pytest.raises(CheckpointError, match="their architectures differ"):
        counterpart(found)
    deeper = replace(tiny.config, encoder=replace(tiny.config.encoder, blocks=3))
    saved(golden_model(deeper), tmp_path / "mine-photo.safetensors")
    assert needed_counterpart(found).name == "mine-photo"
    shallower = find(saved(golden_model(deeper), tmp_path / "other.safetensors"))
    saved(tiny, tmp_path / "other-photo.safetensors")
    with pytest.raises(CheckpointError, match="their architectures differ"):
        counterpart(shallower)
    with pytest.raises(UsageError, match="a loaded model"):
        needed_counterpart(None)


def test_what_the_knob_takes() -> None:
    assert [parse_restore(text) for text in ("auto", "0", "0.35", "1")] == ["auto", 0, 0.35, 1]
    for text in ("", "full", "-0.1", "1.01", "nan"):
        with pytest.raises(UsageError, match="is not a strength"):
            parse_restore(text)


@pytest.mark.parametrize("form", ["jpeg", "webp", "avif"])
def test_the_curve_falls_with_the_quality_and_passes_its_points(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    strengths = [strength_for(quality, form) for quality in range(1, 101)]
    assert strengths == sorted(strengths, reverse=True) and (strengths[0], strengths[-1]) == (1, 0)
    for quality, strength in restore.CURVES[form]:
        assert strength_for(quality, form) == pytest.approx(strength, abs=0.025)
    monkeypatch.setattr(restore, "CURVES", {"jpeg": ((60, 1.0), (90, 0.4))})
    assert [strength_for(quality) for quality in (10, 60, 75, 90, 99)] == [1, 1, 0.7, 0.4, 0.4]


@pytest.mark.weights
def test_the_shipped_pair_can_be_mixed() -> None:
    light = find("light")
    photo = needed_counterpart(light)
    mixed = between(light.load(), photo.load(), 0.5)
    assert photo.name == "light-photo" and all(t.isfinite().all() for t in mixed.export().values())
