"""Reads checkpoint files of other projects without running code in them, and recognises their layouts by their keys.

Each layout is converted to a `ModelConfig` and tensors with the LIIF authors' names. A file that fits no model of liif is
refused with an error that lists its keys.
"""

import pickle
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from liif_cli.errors import CheckpointError
from liif_cli.models.pickles import check_pickles
from liif_cli.models.registry import ModelConfig
from liif_cli.models.schema import ConfigError, parse

MAX_BYTES = 4 * 2**30  # RDN-LIIF with Adam's state is 0.3 GB
Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Foreign:
    """A model read from another project's file.

    layout: the project's. tensors: by the LIIF authors' names, with their stored values. unused: names of tensors that the
    model does not use. assumed: assumptions that the file does not confirm, one sentence each.
    """

    layout: str
    config: ModelConfig
    tensors: Tensors
    unused: tuple[str, ...] = ()
    assumed: tuple[str, ...] = field(default=())


def read_foreign(path: Path) -> Foreign:
    """Read another project's checkpoint: a `.pth` or `.pt` file of PyTorch, or safetensors without liif's header.

    From a pickle, only tensors and plain containers are loaded (`weights_only=True`). Raises `CheckpointError` if the file is
    not a checkpoint, would run code, or has an unknown layout.
    """
    _check_size(path)
    return understand(_load_safetensors(path) if _is_safetensors(path) else _load_pickle(path), path.name)


def understand(data: object, name: str) -> Foreign:
    """Recognise the loaded content of the file `name`. Raises `CheckpointError` with its keys if no layout fits."""
    if not isinstance(data, Mapping):
        raise CheckpointError(f"{name} holds a {type(data).__name__}, not a dictionary of tensors")
    for read in LAYOUTS:
        found = read(data, name)
        if found:
            _check_tensors(found.tensors, name)
            return found
    raise CheckpointError(f"the layout of {name} is unknown; its keys are {_keys(data)}")


# Opening


def _is_safetensors(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"


def _load_safetensors(path: Path) -> Tensors:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path.name} is not a complete safetensors file: {error}") from None


def _load_pickle(path: Path) -> object:
    check_pickles(path)
    try:
        with path.open(
            "rb"
        ) as file:  # given a path, torch would treat some pickles as safetensors because of their names
            return torch.load(file, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except pickle.UnpicklingError as error:
        raise _unsafe(path, str(error)) from None
    except Exception as error:  # a damaged pickle or archive can raise anything
        reason = " ".join((str(error) or type(error).__name__).split())[:200]
        raise CheckpointError(f"{path.name} is not a complete PyTorch checkpoint: {reason}") from None


def _check_size(path: Path) -> None:
    """Check the size before reading; `check_pickles` makes sure that an archive's members are no larger than the file."""
    size = path.stat().st_size
    if size == 0:
        raise CheckpointError(f"{path.name} is empty")
    if size > MAX_BYTES:
        raise CheckpointError(
            f"{path.name} has {size / 2**30:.1f} GiB, more than the limit for LIIF checkpoints ({MAX_BYTES / 2**30:.0f} GiB)"
        )


def _unsafe(path: Path, reason: str) -> CheckpointError:
    wanted = re.search(r"(?:GLOBAL|class|global:?) ([\w.]+\.[\w.]+)", reason)
    if wanted is None:
        return CheckpointError(f"cannot read {path.name} as a PyTorch checkpoint without running code in it")
    return CheckpointError(
        f"{path.name} uses {wanted[1]}, which could run code: nothing was loaded",
        hint="save only its tensors, with torch.save(model.state_dict(), ...), and convert that file",
    )


def _check_tensors(tensors: Mapping[str, Tensor], name: str) -> None:
    for key, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.device.type != "cpu" or not tensor.is_floating_point():
            raise CheckpointError(f"{name}: tensor {key} is not plain floating-point ({tensor.dtype}, {tensor.layout})")
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise CheckpointError(f"{name}: {key} claims to be larger than its data")
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors.values()}
    if sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()) > sum(storages.values()):
        raise CheckpointError(f"{name}: its tensors share data and would be larger than the file")


def _keys(data: Mapping[Any, Any]) -> str:
    names = [f"{key!s:.80}" for key in data]
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "") if names else "none"


def _only_tensors(data: object) -> Tensors | None:
    """`data` if it is a dictionary of only named tensors, otherwise None."""
    if not isinstance(data, Mapping) or not data:
        return None
    if not all(isinstance(key, str) and isinstance(value, Tensor) for key, value in data.items()):
        return None
    return {key: value.detach() for key, value in data.items()}


# The LIIF authors' files


def _authors(data: Mapping[Any, Any], name: str) -> Foreign | None:
    """{"model": {"name", "args", "sd"}, ...}: with the model's spec."""
    spec = data.get("model")
    tensors = _only_tensors(spec.get("sd")) if isinstance(spec, Mapping) else None
    if tensors is None or not isinstance(spec, Mapping):
        return None
    args = spec.get("args")
    if spec.get("name") not in ("liif", "metasr") or not isinstance(args, Mapping):
        raise CheckpointError(f"{name} needs the decoder {spec.get('name')!r}; liif has 'liif' and 'metasr'")
    encoder = _encoder_spec(args, name)
    decoder = {"name": "metasr"} if spec["name"] == "metasr" else _decoder_spec(args, name)
    config = _config({"encoder": encoder, "decoder": decoder}, name)
    kept, unused = _without_mean_shift(tensors)
    return Foreign("LIIF authors", config, kept, unused, ("images are normalised with mean 0.5 and std 0.5",))


def _spec(args: Mapping[Any, Any], key: str, name: str) -> tuple[str, dict[str, Any]]:
    spec = args.get(key)
    inner = spec.get("args") or {} if isinstance(spec, Mapping) else None
    if not isinstance(spec, Mapping) or not isinstance(inner, Mapping):
        raise CheckpointError(f"{name}: its {key} is {spec!r:.80}, not a name and arguments")
    return str(spec.get("name")), dict(inner)


ENCODER_SPECS: dict[str, dict[str, Any]] = {
    "edsr-baseline": {"n_resblocks": 16, "n_feats": 64, "res_scale": 1.0},
    "edsr": {"n_resblocks": 32, "n_feats": 256, "res_scale": 0.1},
    "rdn": {"G0": 64, "RDNconfig": "B"},
}
EDSR_NAMES = {"n_resblocks": "blocks", "n_feats": "features", "res_scale": "residual_scale"}
RDN_CONFIGS = {"A": {"blocks": 20, "layers": 6, "growth": 32}, "B": {"blocks": 16, "layers": 8, "growth": 64}}
# Arguments of the up-sampler and the mean shift, which LIIF does not use, and the kernel size, which the tensors show.
WITHOUT_EFFECT = {"scale", "no_upsampling", "rgb_range", "RDNkSize"}


def _encoder_spec(args: Mapping[Any, Any], name: str) -> dict[str, Any]:
    kind, given = _spec(args, "encoder_spec", name)
    if kind not in ENCODER_SPECS:
        raise CheckpointError(f"{name} needs the encoder {kind!r}; liif has {', '.join(ENCODER_SPECS)}")
    values = ENCODER_SPECS[kind] | {key: value for key, value in given.items() if key not in WITHOUT_EFFECT}
    if unknown := set(values) - set(ENCODER_SPECS[kind]):
        raise CheckpointError(f"{name}: its encoder has the unknown argument {min(map(str, unknown))}")
    if kind != "rdn":
        return {"name": "edsr"} | {EDSR_NAMES[key]: value for key, value in values.items()}
    if values["RDNconfig"] not in RDN_CONFIGS:
        raise CheckpointError(f"{name}: its encoder's RDNconfig must be A or B, not {values['RDNconfig']!r}")
    return {"name": "rdn", "features": values["G0"]} | RDN_CONFIGS[values["RDNconfig"]]


def _decoder_spec(args: Mapping[Any, Any], name: str) -> dict[str, Any]:
    kind, given = _spec(args, "imnet_spec", name)
    hidden = given.get("hidden_list")
    if kind != "mlp" or given.get("out_dim", 3) != 3 or not isinstance(hidden, list | tuple):
        raise CheckpointError(f"{name}: its decoder's network is {kind} with {given!r:.80}, not an MLP of 3 outputs")
    return {
        "name": "liif",
        "hidden": tuple(hidden),
        "local_ensemble": args.get("local_ensemble", True),
        "feature_unfolding": args.get("feat_unfold", True),
        "cell_decoding": args.get("cell_decode", True),
    }


def _config(data: dict[str, Any], name: str) -> ModelConfig:
    try:
        return parse(ModelConfig, data)
    except ConfigError as error:
        raise CheckpointError(f"cannot understand {name}: {error}") from None


def _without_mean_shift(tensors: Tensors) -> tuple[Tensors, tuple[str, ...]]:
    """The authors' files hold EDSR's mean shift, which LIIF never applies."""
    return _without(tensors, ("encoder.sub_mean.", "encoder.add_mean."))


def _without(tensors: Tensors, beginnings: tuple[str, ...]) -> tuple[Tensors, tuple[str, ...]]:
    """`tensors` without those whose names have one of these beginnings, and the removed names."""
    kept = {key: tensor for key, tensor in tensors.items() if not key.startswith(beginnings)}
    return kept, tuple(key for key in tensors if key.startswith(beginnings))


# State dicts without a spec: sizes are inferred from shapes


def _bare(data: Mapping[Any, Any], name: str) -> Foreign | None:
    """The LIIF authors' names at the top level or under `state_dict`."""
    tensors = _only_tensors(data.get("state_dict", data))
    if tensors is None or not {"imnet.layers.0.weight"} <= set(tensors):
        return None
    kept, unused = _without_mean_shift(tensors)
    assumed = ("images are normalised with mean 0.5 and std 0.5", "the local ensemble is on")
    return Foreign("LIIF state dict", infer(kept, name), kept, unused, assumed)


def infer(tensors: Tensors, name: str, **normalisation: Any) -> ModelConfig:
    """The config inferred from the shapes of tensors with the authors' names. Raises `CheckpointError`."""
    try:
        encoder = _infer_edsr(tensors) if "encoder.head.0.weight" in tensors else _infer_rdn(tensors)
        decoder = _infer_decoder(tensors, encoder["features"])
    except (KeyError, IndexError):
        raise CheckpointError(
            f"{name} has a LIIF decoder, but its encoder is neither EDSR nor RDN; its keys are {_keys(tensors)}"
        ) from None
    return _config({"encoder": encoder, "decoder": decoder, **normalisation}, name)


def _count(tensors: Tensors, pattern: str) -> int:
    return sum(re.fullmatch(pattern, key) is not None for key in tensors)


def _infer_edsr(tensors: Tensors) -> dict[str, Any]:
    features, blocks = len(tensors["encoder.head.0.weight"]), _count(tensors, r"encoder\.body\.\d+\.body\.0\.weight")
    scale = 0.1 if features == 256 else 1.0  # EDSR, EDSR-baseline
    return {"name": "edsr", "features": features, "blocks": blocks, "residual_scale": scale}


def _infer_rdn(tensors: Tensors) -> dict[str, Any]:
    return {
        "name": "rdn",
        "features": len(tensors["encoder.SFENet1.weight"]),
        "blocks": _count(tensors, r"encoder\.RDBs\.\d+\.LFF\.weight"),
        "layers": _count(tensors, r"encoder\.RDBs\.0\.convs\.\d+\.conv\.0\.weight"),
        "growth": len(tensors["encoder.RDBs.0.convs.0.conv.0.weight"]),
    }


def _infer_decoder(tensors: Tensors, features: int) -> dict[str, Any]:
    count = _count(tensors, r"imnet\.layers\.\d+\.weight")
    widths = tuple(len(tensors[f"imnet.layers.{2 * i}.weight"]) for i in range(count))
    inputs = tensors["imnet.layers.0.weight"].shape[1]
    if inputs == 3:
        return {"name": "metasr", "hidden": widths[0]}
    unfolding = inputs >= 9 * features
    rest = inputs - features * (9 if unfolding else 1)
    return {"name": "liif", "hidden": widths[:-1], "feature_unfolding": unfolding, "cell_decoding": rest == 4}


# MMEditing's files

MMEDITING_NAMES = {
    "edsr": (
        (r"conv_first\.(.*)", r"encoder.head.0.\1"),
        (r"body\.(\d+)\.conv1\.(.*)", r"encoder.body.\1.body.0.\2"),
        (r"body\.(\d+)\.conv2\.(.*)", r"encoder.body.\1.body.2.\2"),
        (r"conv_after_body\.(.*)", r"encoder.body.{blocks}.\1"),
        (r"(imnet\..*)", r"\1"),
    ),
    "rdn": (
        (r"sfe([12])\.(.*)", r"encoder.SFENet\1.\2"),
        (r"rdbs\.(\d+)\.layers\.(\d+)\.conv\.(.*)", r"encoder.RDBs.\1.convs.\2.conv.0.\3"),
        (r"rdbs\.(\d+)\.lff\.(.*)", r"encoder.RDBs.\1.LFF.\2"),
        (r"gff\.(.*)", r"encoder.GFF.\1"),
        (r"(imnet\..*)", r"\1"),
    ),
}
MMEDITING_NORMALISATION: dict[str, dict[str, Any]] = {
    "edsr": {"mean": (0.4488, 0.4371, 0.4040), "std": (1.0, 1.0, 1.0)},
    "rdn": {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)},
}
PREFIX = "generator."
UP_SAMPLERS = ("upsample.", "conv_last.", "upscale.", "output.")  # of EDSR and RDN; LIIF does not use them


def _mmediting(data: Mapping[Any, Any], name: str) -> Foreign | None:
    """{"state_dict": ...}, the network under `generator.`."""
    everything = _only_tensors(data.get("state_dict", data))
    if everything is None or not any(key.startswith(PREFIX) for key in everything):
        return None
    # In files of the first version, the MLP is next to the generator, not in it.
    used = {key: key.removeprefix(PREFIX) for key in everything if key.startswith((PREFIX, "imnet."))}
    own = {ours: everything[key] for key, ours in used.items() if not ours.startswith(UP_SAMPLERS)}
    kind = "edsr" if "conv_first.weight" in own else "rdn" if "sfe1.weight" in own else None
    if kind is None or "imnet.layers.0.weight" not in own:
        raise CheckpointError(f"{name} is from MMEditing, but not a LIIF model; its keys are {_keys(everything)}")
    tensors = _renamed(own, kind, name)
    unused = tuple(key for key in everything if used.get(key) not in own)
    numbers = MMEDITING_NORMALISATION[kind]
    assumed = (f"images are normalised with mean {_numbers(numbers['mean'])} and std {_numbers(numbers['std'])}",)
    return Foreign(
        "MMEditing", infer(tensors, name, **numbers), tensors, unused, (*assumed, "the local ensemble is on")
    )


def _renamed(tensors: Tensors, kind: str, name: str) -> Tensors:
    blocks = _count(tensors, r"body\.\d+\.conv1\.weight")
    renamed: Tensors = {}
    for key, tensor in tensors.items():
        rules = ((re.fullmatch(pattern, key), new) for pattern, new in MMEDITING_NAMES[kind])
        ours = next((match.expand(new.format(blocks=blocks)) for match, new in rules if match), None)
        if ours is None:
            raise CheckpointError(f"{name} is from MMEditing and has the unknown tensor {PREFIX}{key}")
        renamed[ours] = tensor
    return renamed


def _numbers(values: tuple[float, ...]) -> str:
    return f"{values[0]:g}" if len(set(values)) == 1 else ", ".join(f"{value:g}" for value in values)


# Fixed scales

UP_SAMPLED = {"edsr": ("EDSR", "head.0.weight", "tail", "tail.0"), "rdn": ("RDN", "SFENet1.weight", "UPNet", "UPNet")}
"""Layout of an up-sampling module -> the model's name, a tensor of the encoder, the module, and its stages."""


def _fixed_scale(data: Mapping[Any, Any], name: str) -> Foreign | None:
    """EDSR (`head`, `body`, `tail`) or RDN (`SFENet1`, `UPNet`) with its up-sampling module: the EDSR release's files, and the
    LIIF authors' baselines."""
    spec = data.get("model")
    tensors = _only_tensors(spec.get("sd") if isinstance(spec, Mapping) else data.get("state_dict", data))
    for layout, (what, first, module, stages) in UP_SAMPLED.items():
        if tensors and first in tensors and any(key.startswith(f"{module}.") for key in tensors):
            try:
                return _up_sampled(tensors, layout, stages, name)
            except (KeyError, IndexError):
                raise CheckpointError(
                    f"{name} is an incomplete {what} with an up-sampler; its keys are {_keys(tensors)}"
                ) from None
    return None


def _up_sampled(tensors: Tensors, layout: str, stages: str, name: str) -> Foreign:
    kept, unused = _without(tensors, ("sub_mean.", "add_mean."))
    prefixed = {f"encoder.{key}": tensor for key, tensor in kept.items()}
    encoder = _infer_edsr(prefixed) if layout == "edsr" else _infer_rdn(prefixed)
    factor = round((len(tensors[f"{stages}.0.weight"]) / encoder["features"]) ** 0.5)
    # With two stages, both convolutions have equally many outputs; a single stage is followed by the one for colours.
    twice = len(tensors.get(f"{stages}.2.weight", ())) == len(tensors[f"{stages}.0.weight"])
    decoder = {"name": "upsampler", "scale": factor**2 if twice else factor, "layout": layout}
    whose, normalisation, assumed = _release(tensors)
    config = _config({"encoder": encoder, "decoder": decoder, **normalisation}, name)
    return Foreign(whose, config, kept, unused, (assumed,))


def _release(tensors: Tensors) -> tuple[str, dict[str, Any], str]:
    """The project, its normalisation, and a sentence about it. The EDSR release subtracts the mean in `sub_mean`, on the scale
    0 to 255; the LIIF authors' files hold one on the scale 0 to 1, which is not used."""
    bias = tensors.get("sub_mean.bias")
    if bias is not None and bias.numel() == 3 and bias.abs().max() > 1:
        mean = tuple(round(-value / 255, 6) for value in bias.tolist())
        return (
            "EDSR",
            {"mean": mean, "std": (1 / 255,) * 3},
            f"pixels range from 0 to 255, and the mean {_numbers(mean)} (on the scale 0 to 1) is subtracted",
        )
    return "LIIF authors", {}, "images are normalised with mean 0.5 and std 0.5"


LAYOUTS: tuple[Callable[[Mapping[Any, Any], str], Foreign | None], ...] = (_fixed_scale, _authors, _mmediting, _bare)
