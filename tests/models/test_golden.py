"""Parity with the authors' implementation.

`tests/data/golden.safetensors` holds a part of what their code returned (float32, CPU) for weights that are a formula, so
that parity is checked everywhere; the full set is read where the shared folder is at hand. At pixels that lie over the last
row or column of codes at odd scales the reference blends with rounding noise (all four areas vanish); they are left out, or
held to 1e-3, and continuity across them is tested instead.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from tiny_models import golden_model

from liif_cli.coords import Axis, Grid, to_position
from liif_cli.models.model import SRModel
from liif_cli.models.registry import PRESETS

OWN = Path(__file__).parents[1] / "data" / "golden.safetensors"
SIZE = (13, 17)
MODELS = [
    "edsr-baseline-liif",
    "edsr-baseline-liif-c",
    "edsr-baseline-liif-u",
    "edsr-baseline-liif-e",
    "edsr-baseline-liif-d",
    "rdn-liif",
]
OTHERS = [
    "edsr-baseline-metasr",
    "rdn-metasr",
    *(f"{encoder}-x{scale}" for encoder in ("edsr-baseline", "rdn") for scale in (2, 3, 4)),
]
PART = [*MODELS, "edsr-baseline-metasr", "edsr-baseline-x2", "edsr-baseline-x3", "edsr-baseline-x4"]


def wrong_in_reference(height: int, width: int) -> np.ndarray:
    """Pixels whose centre is the centre of the last row or column of codes: (height, width) bool."""
    grid = Grid.whole(SIZE, (height, width))
    return (grid.rows.positions() == SIZE[0] - 1)[:, None] | (grid.columns.positions() == SIZE[1] - 1)[None]


@torch.no_grad()
def check(name: str, outputs: dict[str, np.ndarray], model: SRModel | None = None) -> None:
    """Every stored output of the model `name` against ours, or against another model of the same weights.

    Within 2e-4; of MetaSR, whose random weights give values near 100, within 1e-3 of the largest.
    """
    model = model or golden_model(PRESETS[name])
    features = model.encoder(torch.from_numpy(outputs["input"]).unsqueeze(0))
    if f"{name}/features" in outputs:
        np.testing.assert_allclose(features[0].numpy(), outputs[f"{name}/features"], atol=2e-4)
    field = model.decoder.prepare(features)
    ensemble = getattr(model.decoder, "local_ensemble", False)
    sizes = [key.split("/")[1] for key in outputs if key.startswith(f"{name}/") and key.split("/")[1][0].isdigit()]
    assert sizes
    for size in sizes:
        height, width = map(int, size.split("x"))
        grid = Grid.whole(SIZE, (height, width))
        ours = model.decoder.render(field, grid.rows, grid.columns)[0].numpy()
        error = np.abs(ours - outputs[f"{name}/{size}"]).max(-1)
        skip = wrong_in_reference(height, width) if ensemble else np.zeros_like(error, bool)
        assert error[~skip].max() <= tolerance(name, outputs[f"{name}/{size}"]), size
        if ensemble and size == "39x51" and name != "edsr-baseline-liif-d":  # -d: the reference's noise there is 2.4e-3
            assert error.max() <= 1e-3
    if f"{name}/query.rgb" not in outputs:
        return
    position = torch.from_numpy(to_position(outputs[f"{name}/query.coord"].astype(np.float64), SIZE)).unsqueeze(0)
    cell = torch.from_numpy(outputs[f"{name}/query.cell"].astype(np.float64) * SIZE / 2).unsqueeze(0)
    ours = model.decoder.query(field, position, cell)[0].numpy()
    assert np.abs(ours - outputs[f"{name}/query.rgb"]).max() <= tolerance(name, outputs[f"{name}/query.rgb"])


def tolerance(name: str, wanted: np.ndarray) -> float:
    """The largest difference from `wanted` that is parity."""
    return 1e-3 * float(np.abs(wanted).max()) if "metasr" in name else 2e-4


@pytest.mark.parametrize("name", PART)
def test_a_part_of_the_authors_outputs(name: str) -> None:
    check(name, load_file(OWN))


@pytest.mark.shared
@pytest.mark.parametrize("name", [*MODELS, *OTHERS])
def test_all_of_the_authors_outputs(name: str, shared: Path) -> None:
    check(name, load_file(shared / "golden" / "reference_outputs.safetensors"))


@pytest.mark.shared
@pytest.mark.parametrize("name", [*MODELS, *OTHERS])
def test_parameters_have_the_authors_names_and_number(name: str, shared: Path) -> None:
    reference = json.loads((shared / "golden" / "reference_models.json").read_text())[name]
    with torch.device("meta"):  # names and sizes need no values
        own = SRModel(PRESETS[name]).export()
    assert list(own) == reference["parameter_names"]
    assert sum(t.numel() for t in own.values()) == reference["params"]


@torch.no_grad()
def test_colours_are_continuous_where_the_reference_is_not() -> None:
    """Just before, on and just after the centre of the last column of codes."""
    model = golden_model(PRESETS["edsr-baseline-liif"])
    field = model.decoder.prepare(model.encoder(torch.from_numpy(load_file(OWN)["input"]).unsqueeze(0)))
    x = torch.tensor([16 - 1e-7, 16.0, 16 + 1e-7], dtype=torch.float64)
    position = torch.stack([torch.full_like(x, 12.0), x], -1).unsqueeze(0)
    colours = model.decoder.query(field, position, torch.ones_like(position))[0]
    assert (colours - colours[1]).abs().max() < 1e-5


@torch.no_grad()
def test_render_is_query_on_a_grid() -> None:
    model = golden_model(PRESETS["edsr-baseline-liif"])
    field = model.decoder.prepare(model.encoder(torch.from_numpy(load_file(OWN)["input"]).unsqueeze(0)))
    rows, columns = Axis.whole(13, 29).part(3, 20), Axis.whole(17, 41).part(5, 41)
    y, x = (torch.from_numpy(axis.positions()) for axis in (rows, columns))
    position = torch.stack(torch.meshgrid(y, x, indexing="ij"), -1).reshape(1, -1, 2)
    cell = torch.tensor([13 / 29, 17 / 41], dtype=torch.float64).expand_as(position)
    expected = model.decoder.query(field, position, cell).reshape(1, 17, 36, 3)
    torch.testing.assert_close(model.decoder.render(field, rows, columns), expected, atol=1e-5, rtol=0)
