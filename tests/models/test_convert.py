"""Other projects' checkpoints: each layout, made by the golden formula, gives the model it came from; the rest is refused."""

import json
import os
import re
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file
from safetensors.torch import save_file
from test_golden import OWN, check
from tiny_models import formula, golden_model, tiny_config

from liif_cli.errors import CheckpointError, LiifError, OutputError
from liif_cli.models import foreign, known
from liif_cli.models.checkpoints import save_model
from liif_cli.models.convert import convert
from liif_cli.models.decoders.metasr import MetaSRConfig
from liif_cli.models.decoders.upsampler import UpSamplerConfig
from liif_cli.models.model import SRModel
from liif_cli.models.registry import PRESETS, ModelConfig
from liif_cli.models.store import find, load_model

Run = Callable[..., Any]
Tensors = dict[str, torch.Tensor]
MEAN_SHIFT = [f"encoder.{part}_mean.{what}" for part in ("sub", "add") for what in ("weight", "bias")]


def formula_tensors(config: ModelConfig) -> Tensors:
    """Parameters by the authors' names."""
    with torch.device("meta"):
        names = SRModel(config).export()
    return {name: formula(name, tuple(tensor.shape)) for name, tensor in names.items()}


def authors(config: ModelConfig, **changed: Any) -> dict[str, Any]:
    """What the authors' `train_liif.py` saves: spec and tensors, Adam's state after a step (not for large RDN), the epoch."""
    encoder, decoder = config.encoder, config.decoder
    if encoder.name == "edsr":
        args: dict[str, Any] = {"n_resblocks": encoder.blocks, "n_feats": encoder.features, "no_upsampling": True}
    else:
        args = {"G0": encoder.features, "no_upsampling": True}
    spec = {
        "encoder_spec": {"name": "edsr-baseline" if encoder.name == "edsr" else "rdn", "args": args},
        "imnet_spec": {"name": "mlp", "args": {"out_dim": 3, "hidden_list": list(decoder.hidden)}},
    }
    flags = {"local_ensemble": "local_ensemble", "feat_unfold": "feature_unfolding", "cell_decode": "cell_decoding"}
    spec |= {theirs: getattr(decoder, ours) for theirs, ours in flags.items() if not getattr(decoder, ours)}
    tensors = formula_tensors(config)
    if encoder.name == "edsr":
        tensors |= {name: torch.eye(3).view(3, 3, 1, 1) if "weight" in name else torch.ones(3) for name in MEAN_SHIFT}
    model = {"name": "liif", "args": spec | changed.pop("args", {}), "sd": tensors} | changed
    state = adam(tensors) if encoder.name == "edsr" else {}
    return {"model": model, "optimizer": {"name": "adam", "args": {"lr": 1e-4}, "sd": state}, "epoch": 1000}


def adam(tensors: Tensors) -> dict[str, Any]:
    """The state of Adam after a step."""
    parameters = [torch.nn.Parameter(tensor.clone()) for tensor in tensors.values()]
    optimiser = torch.optim.Adam(parameters, lr=1e-4)
    sum(parameter.square().sum() for parameter in parameters).backward()
    optimiser.step()
    return optimiser.state_dict()


def mmediting(config: ModelConfig) -> dict[str, Any]:
    """What MMEditing publishes: metadata, and the generator's tensors by its own names."""
    blocks = getattr(config.encoder, "blocks", 0)
    own = {
        r"encoder\.head\.0": "conv_first",
        rf"encoder\.body\.{blocks}\.(weight|bias)": r"conv_after_body.\1",
        r"encoder\.body\.(\d+)\.body\.0": r"body.\1.conv1",
        r"encoder\.body\.(\d+)\.body\.2": r"body.\1.conv2",
        r"encoder\.SFENet": "sfe",
        r"encoder\.RDBs\.(\d+)\.convs\.(\d+)\.conv\.0": r"rdbs.\1.layers.\2.conv",
        r"encoder\.RDBs\.(\d+)\.LFF": r"rdbs.\1.lff",
        r"encoder\.GFF": "gff",
    }
    renamed = {}
    for name, tensor in formula_tensors(config).items():
        for pattern, new in own.items():
            name = re.sub(f"^{pattern}", new, name)
        renamed[f"generator.{name}"] = tensor
    return {"meta": {"mmedit_version": "0.8.0", "iter": 1_000_000}, "state_dict": renamed}


def saved(path: Path, data: object, **how: Any) -> Path:
    torch.save(data, path, **how)
    return path


def converted(source: Path, **how: Any) -> SRModel:
    """The model of the file that `source` is converted to."""
    out = source.with_suffix(".safetensors")
    convert(source, out, **how)
    return load_model(out)


# Every layout, both ways


@pytest.mark.parametrize("name", ["edsr-baseline-liif", "edsr-baseline-liif-e", "rdn-liif"])
def test_the_authors_files_render_what_their_code_renders(name: str, tmp_path: Path) -> None:
    model = converted(saved(tmp_path / "epoch-last.pth", authors(PRESETS[name])))
    assert model.config == PRESETS[name]
    check(name, load_file(OWN), model)


def test_the_authors_metasr_is_followed(tmp_path: Path) -> None:
    config = ModelConfig(tiny_config().encoder, MetaSRConfig())
    args = {"encoder_spec": authors(tiny_config())["model"]["args"]["encoder_spec"]}
    data = {"model": {"name": "metasr", "args": args, "sd": formula_tensors(config)}, "epoch": 1000}
    for each, name in ((data, "whole.pth"), (formula_tensors(config), "bare.pth")):
        model = converted(saved(tmp_path / name, each))
        assert model.config == config
        same(model, golden_model(config))


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("layout", ["edsr", "rdn"])
@pytest.mark.parametrize("spec", [True, False])
def test_up_sampling_modules(scale: Any, layout: Any, spec: bool, tmp_path: Path) -> None:
    config = ModelConfig(tiny_config(layout).encoder, UpSamplerConfig(scale=scale, layout=layout))
    tensors = formula_tensors(config)
    if layout == "edsr":  # stored by the LIIF authors, and not applied
        tensors |= {"sub_mean.weight": torch.eye(3).view(3, 3, 1, 1), "sub_mean.bias": torch.full((3,), -0.44)}
    data = {"model": {"name": "edsr-baseline", "args": {"scale": scale}, "sd": tensors}} if spec else tensors
    model = converted(saved(tmp_path / "x.pth", data))
    assert model.config == config
    same(model, golden_model(config))


def test_the_edsr_release_has_its_own_normalisation(tmp_path: Path) -> None:
    mean = (0.4488, 0.4371, 0.4040)
    config = ModelConfig(tiny_config().encoder, UpSamplerConfig(scale=4), mean=mean, std=(1 / 255,) * 3)
    shift = {"weight": torch.eye(3).view(3, 3, 1, 1), "bias": 255 * torch.tensor(mean)}
    tensors = {f"add_mean.{part}": tensor for part, tensor in shift.items()}
    tensors |= {"sub_mean.weight": shift["weight"], "sub_mean.bias": -shift["bias"]}
    model = converted(saved(tmp_path / "edsr_x4.pt", tensors | formula_tensors(config)))
    assert model.config == config
    header = find(tmp_path / "edsr_x4.safetensors").header
    assert header.provenance["layout"] == "EDSR" and "0.4488, 0.4371, 0.404" in header.provenance["assumed"][0]


@pytest.mark.parametrize("flag", ["local_ensemble", "feature_unfolding", "cell_decoding"])
@pytest.mark.parametrize("zipped", [True, False], ids=["archive", "pickle of old"])
def test_the_spec_inside_is_followed(flag: str, zipped: bool, tmp_path: Path) -> None:
    config = tiny_config(**{flag: False})
    model = converted(
        saved(tmp_path / "tiny.pth", authors(config), _use_new_zipfile_serialization=zipped), licence="CC0-1.0"
    )
    assert model.config == config
    same(model, golden_model(config))
    header = find(tmp_path / "tiny.safetensors").header
    assert header.licence == "CC0-1.0" and header.provenance["layout"] == "LIIF authors"
    assert header.provenance["converted_from"] == "tiny.pth" and len(header.provenance["sha256"]) == 64


@pytest.mark.parametrize("name", ["edsr-baseline-liif", "rdn-liif"])
def test_mmediting_s_files_render_the_same_in_their_own_normalisation(name: str, tmp_path: Path) -> None:
    model = converted(saved(tmp_path / "liif.pth", mmediting(PRESETS[name]), _use_new_zipfile_serialization=False))
    check(name, load_file(OWN), model)
    mean, std = ((0.4488, 0.4371, 0.4040), (1.0,) * 3) if "edsr" in name else ((0.5,) * 3, (0.5,) * 3)
    assert (model.config.mean, model.config.std) == (mean, std)


@torch.no_grad()
def test_normalisation_is_undone_with_the_same_numbers(tmp_path: Path) -> None:
    config = tiny_config()
    model = converted(saved(tmp_path / "liif.pth", mmediting(config)))
    image, grid = torch.rand(1, 3, 7, 6), torch.rand(1, 9, 2, dtype=torch.float64)
    mean = torch.tensor([0.4488, 0.4371, 0.4040])
    plain = golden_model(ModelConfig(config.encoder, config.decoder, (0.0,) * 3, (1.0,) * 3))
    torch.testing.assert_close(model(image, grid, grid), plain(image - mean.view(3, 1, 1), grid, grid) + mean)


def same(model: SRModel, other: SRModel) -> None:
    """Bit for bit, in what they render."""
    image, grid = torch.rand(1, 3, 9, 8), torch.rand(1, 11, 2, dtype=torch.float64) * 2 - 1
    with torch.no_grad():
        assert torch.equal(model(image, grid, grid / 4), other(image, grid, grid / 4))


@pytest.mark.parametrize("kind", ["bare", "state_dict", "safetensors", "fp16"])
@pytest.mark.parametrize("encoder", ["edsr", "rdn"])
def test_state_dicts_without_a_spec_are_understood_by_their_shapes(kind: str, encoder: str, tmp_path: Path) -> None:
    config = tiny_config(encoder, feature_unfolding=False, hidden=(16, 12, 8))
    tensors = formula_tensors(config)
    source = tmp_path / "mine.pth"
    if kind == "safetensors":
        source = tmp_path / "theirs.safetensors"
        save_file(tensors, source)
    elif kind == "fp16":
        saved(source, {name: tensor.half() for name, tensor in tensors.items()})
    else:
        saved(source, tensors if kind == "bare" else {"state_dict": tensors, "epoch": 3})
    made = convert(source, tmp_path / "out.safetensors")
    model = load_model(made.path)
    assert model.config == config and made.licence == "unknown"
    if kind != "fp16":
        same(model, golden_model(config))
    assert any("local ensemble" in each for each in made.assumed)


def test_what_is_left_out_is_named(tmp_path: Path) -> None:
    made = convert(saved(tmp_path / "a.pth", authors(tiny_config())), tmp_path / "a.safetensors")
    assert sorted(made.unused) == sorted(MEAN_SHIFT)
    data = mmediting(tiny_config())
    data["state_dict"]["step_counter"] = torch.zeros(1)
    assert convert(saved(tmp_path / "b.pth", data), tmp_path / "b.safetensors").unused == ("step_counter",)


def test_mmediting_s_first_version_has_the_mlp_beside_the_generator(tmp_path: Path) -> None:
    config = tiny_config()
    data = mmediting(config)
    old = {name.replace("generator.imnet", "imnet"): tensor for name, tensor in data["state_dict"].items()}
    old["generator.conv_last.weight"] = torch.zeros(3, 8, 3, 3)
    made = convert(saved(tmp_path / "old.pth", {"state_dict": old}), tmp_path / "old.safetensors")
    assert made.unused == ("generator.conv_last.weight",)
    same(load_model(made.path), converted(saved(tmp_path / "new.pth", data)))


def test_known_files_are_recognised_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = saved(tmp_path / "liif_edsr.pth", mmediting(tiny_config()))
    digest = convert(source, tmp_path / "first.safetensors").sha256
    entry = known.Known("theirs", "https://example.org/x", digest[:8], "CC-BY-NC-4.0", "them", 1, notice="a notice")
    monkeypatch.setattr(known, "KNOWN", (entry,))
    made = convert(source, tmp_path / "second.safetensors")
    assert made.known is entry and made.licence == "CC-BY-NC-4.0"
    assert "no commercial use" in made.notes()[-1] and "a notice" in made.notes()[-1]
    provenance = find(made.path).header.provenance
    assert (provenance["known"], provenance["notice"]) == ("theirs", "a notice")
    assert convert(source, tmp_path / "third.safetensors", licence="MIT").licence == "MIT"


def test_the_table_of_known_models_is_that_of_the_publishers() -> None:
    hashes = {entry.name: entry.sha256 for entry in known.KNOWN}
    for entry in known.KNOWN:
        assert re.fullmatch("[0-9a-f]{8}|[0-9a-f]{64}", entry.sha256) and entry.source.startswith("https://")
        assert known.by_hash(entry.sha256 + "0" * (64 - len(entry.sha256))) is entry
        if "mmediting" in entry.name:
            assert entry.source.endswith(f"-{entry.sha256}.pth")
    assert len(hashes) == len(set(hashes.values())) == 4 and known.by_hash("0" * 64) is None
    assert known.by_name("authors-rdn-liif").scores["benchmark Set5"]["2"] == 38.17  # type: ignore[union-attr]


def test_the_documents_list_the_known_models() -> None:
    text = (Path(__file__).parents[2] / "docs" / "weights.md").read_text(encoding="utf-8")
    rows = {row.split("`")[1]: row for row in text.splitlines() if row.startswith("| `")}
    for entry in known.KNOWN:
        first = next(
            iter(
                entry.scores[
                    "benchmark Set5" if "benchmark Set5" in entry.scores else next(iter(entry.scores))
                ].values()
            )
        )
        assert f"{entry.parameters:,}" in rows[entry.name] and entry.licence in rows[entry.name]
        assert f"{first:.2f} / " in rows[entry.name]


# What is refused


class Harmful:
    """A pickle of it creates a file when it is loaded without care."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("harmed",)


def broken(config: ModelConfig, how: str) -> Any:
    data = authors(config)
    tensors = data["model"]["sd"]
    name = "encoder.head.0.weight"
    if how == "NaN":
        tensors[name][0, 0, 0, 0] = float("nan")
    elif how == "lacks":
        del tensors[name]
    elif how == "unknown tensor":
        tensors["encoder.tail.weight"] = torch.zeros(3)
    elif how == "shape":
        tensors[name] = tensors[name][:4].clone()
    elif how == "floating-point":
        tensors[name] = tensors[name].int()
    elif how == "larger than its data":
        tensors[name] = torch.zeros(1).expand(8, 3, 3, 3)
    return data


@pytest.mark.parametrize("how", ["NaN", "lacks", "unknown tensor", "shape", "floating-point", "larger than its data"])
def test_tensors_that_do_not_fit(how: str, desk: Path) -> None:
    refuse(saved(desk / "x.pth", broken(tiny_config(), how)), how)


def refuse(source: Path, says: str, kind: type[LiifError] = CheckpointError) -> LiifError:
    """It is refused in a sentence, and nothing is written."""
    before = sorted(source.parent.iterdir())
    with pytest.raises(kind, match=says) as caught:
        convert(source, source.parent / "out.safetensors")
    assert sorted(source.parent.iterdir()) == before
    assert "\n" not in str(caught.value)
    return caught.value


SPEC = {"encoder_spec": {"name": "edsr-baseline", "args": {}}, "imnet_spec": {"name": "mlp", "args": {}}}


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ([1, 2], "holds a list"),
        ({}, "keys are none"),
        ({"a": torch.zeros(2), "b": torch.zeros(2)}, "keys are a, b$"),
        ({str(i): torch.zeros(1) for i in range(9)}, "0, 1, 2, 3, 4, 5 and 3 more"),
        ({"model": {"name": "metasr", "args": {}, "sd": {"x": torch.zeros(1)}}}, "encoder_spec is None"),
        ({"model": {"name": "lte", "args": {}, "sd": {"x": torch.zeros(1)}}}, "needs the decoder 'lte'"),
        ({"model": {"name": "liif", "args": 3, "sd": {"x": torch.zeros(1)}}}, "needs the decoder"),
        ({"model": {"name": "liif", "args": {}, "sd": {"x": torch.zeros(1)}}}, "encoder_spec is None"),
        ({"model": {"name": "liif", "args": SPEC, "sd": {"x": torch.zeros(1)}}}, "not an MLP"),
        ({"state_dict": {"generator.conv_first.weight": torch.zeros(8, 3, 3, 3)}}, "not a LIIF model"),
        ({"state_dict": {"generator.upsample.weight": torch.zeros(1)}}, "keys are generator.upsample.weight"),
        ({"head.0.weight": torch.zeros(8, 3, 3, 3), "tail.1.weight": torch.zeros(1)}, "EDSR with an up-sampler"),
        (
            {
                "model": {
                    "name": "rdn",
                    "args": {},
                    "sd": {"SFENet1.weight": torch.zeros(1), "UPNet.0.bias": torch.zeros(1)},
                }
            },
            "RDN with an up-sampler",
        ),
        ({"SFENet1.weight": torch.zeros(8, 3, 3, 3), "UPNet.0.weight": torch.zeros(1)}, "RDN with an up-sampler"),
        ({"imnet.layers.0.weight": torch.zeros(4, 4)}, "neither EDSR nor RDN"),
    ],
)
def test_layouts_that_are_not_ours_to_render(data: object, says: str, desk: Path) -> None:
    refuse(saved(desk / "x.pth", data), says)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ({"encoder_spec": {"name": "rcan", "args": {}}}, "needs the encoder 'rcan'"),
        ({"encoder_spec": {"name": "edsr-baseline", "args": {"n_layers": 3}}}, "unknown argument n_layers"),
        ({"encoder_spec": {"name": "edsr-baseline", "args": {"n_resblocks": 10**9}}}, "encoder.*blocks"),
        ({"encoder_spec": {"name": "rdn", "args": {"RDNconfig": "C"}}}, "RDNconfig must be A or B, not 'C'"),
        ({"imnet_spec": {"name": "mlp", "args": {"out_dim": 3, "hidden_list": []}}}, "hidden"),
        ({"local_ensemble": "perhaps"}, "local_ensemble"),
    ],
)
def test_specs_that_make_no_sense(args: dict[str, Any], says: str, desk: Path) -> None:
    refuse(saved(desk / "x.pth", authors(tiny_config(), args=args)), says)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_with_code_is_not_run(zipped: bool, desk: Path) -> None:
    data = authors(tiny_config()) | {"extra": Harmful()}
    source = saved(desk / "x.pth", data, _use_new_zipfile_serialization=zipped)
    assert refuse(source, r"uses posix\.mkdir|uses nt\.mkdir").hint
    assert not (desk / "harmed").exists()


def test_a_file_of_ours_needs_no_conversion(tiny: SRModel, desk: Path) -> None:
    save_model(tiny, desk / "ours.safetensors", licence="CC0-1.0", provenance={})
    refuse(desk / "ours.safetensors", "already")


@pytest.mark.parametrize(
    "content",
    [b"\x80\x02}q\x00.", b"PK\x03\x04" + bytes(99), b"\x80", b"hello", bytes(64), b'\x08\0\0\0\0\0\0\0{"a": 1}'],
)
def test_bytes_that_are_no_checkpoint(content: bytes, desk: Path) -> None:
    (desk / "x.pth").write_bytes(content)
    refuse(desk / "x.pth", "x.pth")


def test_a_truncated_checkpoint(desk: Path) -> None:
    source = saved(desk / "x.pth", authors(tiny_config()))
    source.write_bytes(source.read_bytes()[:-200])
    refuse(source, "not a complete PyTorch checkpoint")


def test_an_archive_that_would_unpack_to_gigabytes(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign, "MAX_BYTES", 10**6)
    with zipfile.ZipFile(desk / "x.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data/0", bytes(10**7))
    assert (desk / "x.pth").stat().st_size < 10**5
    refuse(desk / "x.pth", "is a compressed archive")


def test_an_existing_output_is_left_alone(desk: Path) -> None:
    source, out = saved(desk / "x.pth", authors(tiny_config())), desk / "out.safetensors"
    out.write_bytes(b"mine")
    with pytest.raises(OutputError):
        convert(source, out)
    saved(desk / "bad.pth", {})
    with pytest.raises(CheckpointError):
        convert(desk / "bad.pth", out, overwrite=True)
    assert out.read_bytes() == b"mine"
    convert(source, out, overwrite=True)
    assert find(out).config == tiny_config()


# Faults of the file system, as `convert`, as `--model` and as the other commands meet them


def place(desk: Path, kind: str, suffix: str) -> Path:
    path = desk / f"it{suffix}"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "empty":
        path.touch()
    elif kind == "5 GB":
        with path.open("wb") as file:
            file.truncate(5 * 10**9)
    elif kind == "loop":
        path.symlink_to(path)
    return path


FAULTS = {
    "absent": (5, "no file|no model"),
    "folder": (5, "is a folder"),
    "pipe": (5, "is a pipe"),
    "empty": (6, "empty|not a complete"),
    "5 GB": (6, "not a complete|GiB"),
    "loop": (5, "cannot open"),
}


@pytest.mark.skipif(os.name == "nt", reason="pipes and links are POSIX's")
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("kind", FAULTS)
def test_what_is_no_file(liif: Run, desk: Path, kind: str, suffix: str) -> None:
    """Each ends at once, with a code and two lines at most."""
    Image.new("RGB", (8, 8)).save("in.png")
    path = place(desk, kind, suffix)
    code, says = FAULTS[kind]
    before, started = sorted(desk.iterdir()), time.monotonic()
    for call in (
        ["models", "convert", path, "-o", "out.safetensors"],
        ["models", "show", path],
        ["models", "verify", path],
        ["models", "path", path],
        ["models", "push", path, "who/tiny", "--dry-run"],
        ["upscale", "in.png", "-s", 2, "-m", path],
    ):
        ran = liif(*call)
        assert (ran.code, ran.out) == (code, []), (call, ran)
        assert re.search(says, ran.err[0]) and len(ran.err) <= 2
    assert sorted(desk.iterdir()) == before and time.monotonic() - started < 10


# The command


def test_the_command_converts_and_its_output_renders(liif: Run, desk: Path) -> None:
    saved(desk / "x.pth", authors(tiny_config()))
    ran = liif("models", "convert", "x.pth", "-o", "x.safetensors", "--licence", "CC0-1.0")
    assert (ran.code, ran.out) == (0, ["x.safetensors"]) and all(line.startswith("Note: ") for line in ran.err)
    ran = liif("models", "convert", "x.pth", "-o", "y.safetensors", "--json")
    assert ran.err == [] and json.loads(ran.out[0])["layout"] == "LIIF authors"
    assert liif("models", "verify", "x.safetensors", "y.safetensors").code == 0


def test_the_hint_s_command_needs_no_more(liif: Run, desk: Path) -> None:
    (desk / "sub").mkdir()
    saved(desk / "sub" / "x.pth", authors(tiny_config()))
    assert liif("models", "convert", "sub/x.pth").out == ["sub/x.safetensors"]
    save_file(formula_tensors(tiny_config()), desk / "raw.safetensors")
    assert liif("models", "convert", "raw.safetensors").out == ["raw-liif.safetensors"]
    assert liif("models", "convert", "raw.safetensors").code == 4


def test_a_pth_as_a_model_says_which_command_converts_it(liif: Run, desk: Path) -> None:
    saved(desk / "x.pth", authors(tiny_config()))
    ran = liif("models", "show", "x.pth")
    assert ran.code == 6 and ran.err[1] == "Hint: convert it once: liif models convert x.pth"
    save_file({"a": torch.zeros(2)}, desk / "other.safetensors")
    ran = liif("models", "show", "other.safetensors")
    assert ran.code == 6 and ran.err[1].endswith("liif models convert other.safetensors")
