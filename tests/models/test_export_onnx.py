"""ONNX graphs against PyTorch, by onnxruntime: every decoder that can be exported, at sizes other than the example's."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiny_models import tiny_config

from liif_cli.cli.app import run
from liif_cli.coords import Grid
from liif_cli.models.checkpoints import save_model
from liif_cli.models.decoders.fourier import FourierConfig
from liif_cli.models.decoders.liif import LIIFConfig
from liif_cli.models.encoders.edsr import EDSRConfig
from liif_cli.models.encoders.gated import GatedConfig
from liif_cli.models.export_onnx import FourierScaleGraph, LIIFGraph
from liif_cli.models.model import SRModel
from liif_cli.models.registry import DECODERS, ModelConfig
from liif_cli.models.store import load_model

Run = Callable[..., Any]
slow = pytest.mark.slow  # an export takes seconds; CI runs these, too
CONFIGS = {
    "liif": ModelConfig(EDSRConfig(features=8, blocks=1), LIIFConfig(hidden=(16, 16))),
    "fourier": ModelConfig(GatedConfig(features=8, blocks=2), FourierConfig(), (0.4, 0.5, 0.6), (0.5, 0.6, 0.7)),
}


def random_model(config: ModelConfig) -> SRModel:
    """A model whose parameters all matter."""
    torch.manual_seed(5)
    model = SRModel(config).eval()
    for parameter in model.parameters():
        if parameter.ndim:
            torch.nn.init.normal_(parameter, std=0.2)
    return model


@pytest.mark.parametrize("part", ["local_ensemble", "feature_unfolding", "cell_decoding"])
@torch.no_grad()
def test_the_decoder_s_graph_is_its_query_whatever_parts_it_has(part: str) -> None:
    """Before it is exported: in PyTorch, bit for bit but for the order of sums."""
    model = random_model(tiny_config("rdn", **{part: False}))
    position = torch.rand(1, 200, 2, dtype=torch.float64) * torch.tensor([8, 7]) - 0.5
    position[0, :4] = torch.tensor([[0, 0], [7, 6], [3.5, 2.5], [4.5, 0.5]])
    cell = torch.rand(1, 200, 2)
    field = model.encode(image(8, 7))
    torch.testing.assert_close(LIIFGraph(model)(field.codes, position, cell), model.query(field, position, cell))


@pytest.mark.parametrize("size", [(9, 7), (1, 1), (2, 11)])
@pytest.mark.parametrize("scale", [2, 3, 4, 7])
@torch.no_grad()
def test_the_graph_for_one_scale_is_the_renderer(scale: int, size: tuple[int, int]) -> None:
    model = random_model(CONFIGS["fourier"])
    grid = Grid.whole(size, (scale * size[0], scale * size[1]))
    expected = model.render(model.encode(image(*size)), grid.rows, grid.columns).permute(0, 3, 1, 2)
    torch.testing.assert_close(FourierScaleGraph(model, scale)(image(*size)), expected, atol=1e-5, rtol=1e-5)


@pytest.fixture(scope="module", params=CONFIGS)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with model.safetensors and its graphs."""
    pytest.importorskip("onnxscript", reason="exporting needs liif[onnx]")
    pytest.importorskip("onnxruntime", reason="running graphs needs liif[onnx]")
    folder = tmp_path_factory.mktemp("onnx")
    model = random_model(CONFIGS[request.param])
    save_model(model, folder / "model.safetensors", licence="CC0-1.0", provenance={})
    scale = ["--scale", "3"] if "fourier" in request.param else []
    assert run(["models", "export", str(folder / "model.safetensors"), "--onnx", str(folder / "graphs"), *scale]) == 0
    return folder


def session(folder: Path, name: str) -> Any:
    import onnxruntime

    return onnxruntime.InferenceSession(folder / "graphs" / f"{name}.onnx", providers=["CPUExecutionProvider"])


def image(height: int, width: int) -> torch.Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(height * width))


@slow
@pytest.mark.parametrize(("height", "width", "queries"), [(9, 7, 40), (1, 1, 1), (3, 20, 5)])
def test_the_two_graphs_give_what_pytorch_gives(exported: Path, height: int, width: int, queries: int) -> None:
    model, picture = load_model(exported / "model.safetensors"), image(height, width)
    encoder, decoder = session(exported, "encoder"), session(exported, "decoder")
    random = np.random.default_rng(queries)
    position = random.uniform(-0.5, 1, (1, queries, 2)) * [height, width]
    position[0, 0] = [height - 1, width - 1]
    cell = random.uniform(0.1, 1.5, (1, queries, 2)).astype(np.float32)
    with torch.no_grad():
        field = model.encode(picture)
        expected = model.query(field, torch.from_numpy(position), torch.from_numpy(cell)).numpy()
    codes = dict(
        zip([each.name for each in encoder.get_outputs()], encoder.run(None, {"image": picture.numpy()}), strict=True)
    )
    np.testing.assert_allclose(codes["codes"], field.latent.numpy(), atol=1e-4, rtol=1e-4)
    (rgb,) = decoder.run(None, codes | {"position": position, "cell": cell})
    np.testing.assert_allclose(rgb, expected, atol=1e-4, rtol=1e-4)


@slow
@pytest.mark.parametrize("size", [(9, 7), (1, 1)])
def test_one_graph_for_one_scale_is_the_whole_renderer(exported: Path, size: tuple[int, int]) -> None:
    if not (exported / "graphs" / "x3.onnx").exists():
        pytest.skip("this decoder has no graph for one scale")
    model, picture = load_model(exported / "model.safetensors"), image(*size)
    grid = Grid.whole(size, (3 * size[0], 3 * size[1]))
    with torch.no_grad():
        expected = model.render(model.encode(picture), grid.rows, grid.columns).permute(0, 3, 1, 2).numpy()
    (output,) = session(exported, "x3").run(None, {"image": picture.numpy()})
    np.testing.assert_allclose(output, expected, atol=1e-4, rtol=1e-4)


@slow
def test_the_graphs_say_what_they_are(exported: Path) -> None:
    about = session(exported, "decoder").get_modelmeta().custom_metadata_map
    header = json.loads(about["liif"])
    assert about["graph"] == "decoder" and header["licence"] == "CC0-1.0"
    assert header["model"]["decoder"]["name"] in DECODERS
    import onnx

    assert [
        each.version for each in onnx.load(exported / "graphs" / "encoder.onnx").opset_import if not each.domain
    ] == [18]


@slow
def test_the_example_of_the_documents_renders(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Python block in docs/weights.md, as it stands there, against the renderer."""
    text = (Path(__file__).parents[2] / "docs" / "weights.md").read_text(encoding="utf-8")
    (block,) = [part.split("```")[0] for part in text.split("```python\n")[1:] if "onnxruntime" in part]
    assert len(block.splitlines()) <= 30
    assert {line for line in block.splitlines() if line.startswith(("import", "from"))} == {
        "import numpy as np",
        "import onnxruntime",
    }
    monkeypatch.chdir(exported)
    space: dict[str, Any] = {}
    exec(block, space)
    model, picture = load_model("model.safetensors"), image(6, 5)
    grid = Grid.whole((6, 5), (15, 11))
    with torch.no_grad():
        expected: NDArray[Any] = model.render(model.encode(picture), grid.rows, grid.columns)[0].clamp(0, 1).numpy()
    rendered = space["render"](picture[0].permute(1, 2, 0).numpy(), 15, 11)
    np.testing.assert_allclose(rendered, expected, atol=1e-4, rtol=1e-4)


def test_what_cannot_be_exported(liif: Run, desk: Path) -> None:
    pytest.importorskip("onnxscript", reason="exporting needs liif[onnx]")
    save_model(random_model(CONFIGS["liif"]), desk / "x.safetensors", licence="CC0-1.0", provenance={})
    ran = liif("models", "export", "x.safetensors", "--onnx", "g", "--scale", 4)
    assert ran.code == 2 and "a graph for one scale" in ran.err[0]
    save_model(random_model(CONFIGS["fourier"]), desk / "y.safetensors", licence="CC0-1.0", provenance={})
    assert liif("models", "export", "y.safetensors", "--onnx", "g", "--scale", 1).code == 2
    Path("g").mkdir(exist_ok=True)
    Path("g/decoder.onnx").write_bytes(b"mine")
    ran = liif("models", "export", "x.safetensors", "--onnx", "g")
    assert ran.code == 4 and "decoder.onnx exists" in ran.err[0] and Path("g/decoder.onnx").read_bytes() == b"mine"


def test_without_the_extra(liif: Run, desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_model(random_model(CONFIGS["liif"]), desk / "x.safetensors", licence="CC0-1.0", provenance={})
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    ran = liif("models", "export", "x.safetensors", "--onnx", "h")
    assert ran.code == 2 and ran.err[1] == "Hint: pip install 'liif[onnx]'"
