"""Mutated checkpoints: ours, other projects' safetensors, and pickles in PyTorch's two containers; blind mutations, and ones
that know the header, its offsets, types and shapes, the config in it, the numbers of a tensor, the archive and the pickle."""

import contextlib
import io
import json
import pickle
import random
import struct
import warnings
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from liif_cli.cli.models import _aligned, _lines, _row
from liif_cli.coords import Grid
from liif_cli.errors import LiifError
from liif_cli.models import store
from liif_cli.models.checkpoints import HEADER, is_ours
from liif_cli.models.convert import convert
from liif_cli.models.describe import describe
from liif_cli.models.model import SRModel
from liif_cli.models.publish import prepare
from liif_cli.models.registry import DECODERS, ENCODERS, ModelConfig
from liif_cli.models.schema import parse, to_dict

from .campaign import Kind, scratch
from .mutate import BLIND, Mutator, apply, bits, number, splice


def _config(encoder: str, decoder: str) -> ModelConfig:
    tiny = {
        "edsr": {"features": 4, "blocks": 1},
        "rdn": {"features": 4, "blocks": 1, "layers": 1, "growth": 4},
        "gated": {"features": 4, "blocks": 2},
        "liif": {"hidden": [8, 8]},
        "lte": {"width": 4, "hidden": [8]},
        "metasr": {"hidden": 4},
    }
    parts = {"encoder": encoder, "decoder": decoder}
    return parse(ModelConfig, {part: {"name": name, **tiny.get(name, {})} for part, name in parts.items()})


def _tensors(config: ModelConfig, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {name: t.detach().contiguous().to(dtype) for name, t in SRModel(config).export().items()}


def _ours(config: ModelConfig, dtype: torch.dtype = torch.float32) -> bytes:
    header = {
        "schema": 1,
        "model": to_dict(config),
        "licence": "CC0-1.0",
        "provenance": {"iterations": 3, "validation_psnr": {"2": 30.5}, "published_psnr": {"set5": {"2": 31.0}}},
    }
    return save(_tensors(config, dtype), {HEADER: json.dumps(header)})


def _pickled(data: object, **how: Any) -> bytes:
    file = io.BytesIO()
    torch.save(data, file, **how)
    return file.getvalue()


def _authors(config: ModelConfig) -> dict[str, Any]:
    """What the authors' training saves."""
    spec = {
        "encoder_spec": {"name": "edsr-baseline", "args": {"n_resblocks": 1, "n_feats": 4, "no_upsampling": True}},
        "imnet_spec": {"name": "mlp", "args": {"out_dim": 3, "hidden_list": [8, 8]}},
    }
    optimizer = {"name": "adam", "args": {"lr": 1e-4}, "sd": {"state": {}, "param_groups": [{"betas": (0.9, 0.999)}]}}
    return {
        "model": {"name": "liif", "args": spec, "sd": _tensors(config)},
        "optimizer": optimizer,
        "epoch": 1000,
    }


def _mmediting(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """By MMEditing's names, for an EDSR of one block."""
    theirs = {"head.0": "conv_first", "body.0.body.0": "body.0.conv1", "body.0.body.2": "body.0.conv2"}
    theirs = {f"encoder.{name}": new for name, new in {**theirs, "body.1": "conv_after_body"}.items()}
    named = {name: name.rpartition(".") for name in tensors}
    return {f"generator.{theirs.get(n[0], n[0])}.{n[2]}": tensors[name] for name, n in named.items()}


@cache
def seeds() -> list[tuple[str, bytes]]:
    """(kind, file) of small healthy checkpoints: each encoder and decoder, half precision, bare tensors, and pickles."""
    plain = _config("edsr", "liif")
    files = [(f"{name}-liif", _ours(_config(name, "liif"))) for name in ENCODERS]
    files += [(f"edsr-{name}", _ours(_config("edsr", name))) for name in DECODERS]
    files += [("half", _ours(plain, torch.float16)), ("bare safetensors", save(_tensors(plain)))]
    fixed = _tensors(_config("edsr", "upsampler"))
    generator = {"meta": {}, "state_dict": _mmediting(_tensors(plain))}
    files += [("authors' archive", _pickled(_authors(plain))), ("EDSR archive", _pickled(fixed))]
    files += [("MMEditing archive", _pickled(generator)), ("bare archive", _pickled(_tensors(plain)))]
    old = {"_use_new_zipfile_serialization": False}
    return [*files, ("authors' old pickle", _pickled(_authors(plain), **old)), ("plain pickle", pickle.dumps({"a": 1}))]


HUGE = "HUGE"
"""Stands for more digits than Python writes."""
NESTED: Any = None
for _ in range(200):
    NESTED = [NESTED]
VALUES: tuple[Any, ...] = (
    *(None, True, "", "x", "nan", "\u202e\x1b[31m\n", "9" * 500, [], {}, [[]], NESTED, {"a": {"a": None}}),
    *(0, 1, -1, 2, 8, 255, 2**31, 2**63, 2**64, 10**30, 10**400, HUGE, 0.5, -0.0, 1e308, float("nan"), float("inf")),
    *([1] * 100, [8] * 2000, list(range(9)), {str(i): i for i in range(100)}),
)
"""What stands in the place of a value of JSON."""


def _text(value: Any) -> str:
    """JSON, with integers of more digits than Python writes."""
    return json.dumps(value).replace(json.dumps(HUGE), "9" * 5000)


def _change(value: Any, dice: random.Random) -> None:
    """Change, drop, double or add one value anywhere in a tree of JSON."""
    places = list(_places(value))
    if not places:
        return
    place, key = dice.choice(places)
    new = dice.choice(VALUES)
    match dice.randrange(6):
        case 0:
            del place[key]
        case 1 if isinstance(place, dict):
            place[f"{key}{dice.choice(('', 'x', '.', 'weight'))}"] = place[dice.choice(list(place))]
        case 2 if isinstance(place, dict):
            place[dice.choice(("name", "shape", "schema", "blocks", "\u202e", "x" * 300))] = new
        case _:
            place[key] = new


def _places(value: Any) -> Any:
    """(container, key) of everything in a tree of JSON."""
    stack = [value]
    while stack:
        each = stack.pop()
        keys = list(each) if isinstance(each, dict) else range(len(each)) if isinstance(each, list) else ()
        for key in keys:
            yield each, key
            stack.append(each[key])


def _header(data: bytes) -> tuple[Any, bytes]:
    """The JSON of a safetensors file, None where it is none, and what follows it."""
    size = int.from_bytes(data[:8], "little")
    try:
        return (json.loads(data[8 : 8 + size]), data[8 + size :]) if size < len(data) else (None, b"")
    except (ValueError, RecursionError):
        return None, b""


def _put(data: bytearray, head: Any, rest: bytes) -> None:
    text = _text(head).encode("utf-8", "surrogatepass")
    data[:] = struct.pack("<Q", len(text)) + text + rest


def header(data: bytearray, dice: random.Random) -> None:
    """Change a value in the header: a type, a shape, an offset, a name, the metadata."""
    head, rest = _header(bytes(data))
    if not isinstance(head, dict):
        number(data, dice)
        return
    _change(head, dice)
    _put(data, head, rest)


def tensor(data: bytearray, dice: random.Random) -> None:
    """Make a tensor's entry false in a way of its own: other sides, a span that others have, another type."""
    head, rest = _header(bytes(data))
    entries = [v for k, v in head.items() if isinstance(v, dict) and "shape" in v] if isinstance(head, dict) else []
    if not entries:
        splice(data, dice)
        return
    entry, other = dice.choice(entries), dice.choice(entries)
    match dice.randrange(6):
        case 0:
            entry["shape"] = dice.choice(([2**32, 2**32], [0], [2**63, 2, 0], [1] * 70, [-1, -4], [2**62, 4]))
        case 1:
            entry["dtype"] = dice.choice(("F64", "F16", "BF16", "I8", "U64", "BOOL", "F8_E4M3", "F4", "C64", "f32"))
        case 2:
            entry["data_offsets"] = other.get("data_offsets")
        case 3:
            entry["data_offsets"] = [0, len(rest)]
        case 4 if isinstance(entry["shape"], list):
            entry["shape"] = dice.choice((entry["shape"][::-1], [1, *entry["shape"]], [*entry["shape"], 1]))
        case _:
            entry["shape"], other["shape"] = other["shape"], entry["shape"]
    _put(data, head, rest)


def config(data: bytearray, dice: random.Random) -> None:
    """Change a value in the model's config, licence or provenance."""
    head, rest = _header(bytes(data))
    try:
        own = json.loads(head["__metadata__"][HEADER])
        assert isinstance(own, dict)
    except (TypeError, KeyError, ValueError, AssertionError, RecursionError):
        header(data, dice)
        return
    model = own.get("model")
    parts = [own, own.get("provenance"), model, *(model.values() if isinstance(model, dict) else ())]
    inner = [part for part in parts if isinstance(part, dict)]
    _change(dice.choice(inner), dice)
    head["__metadata__"][HEADER] = _text(own)
    _put(data, head, rest)


def value(data: bytearray, dice: random.Random) -> None:
    """Write numbers that are none, or that no computation survives, into what is most likely a tensor."""
    numbers = (float("nan"), float("inf"), -float("inf"), 3e38, -3e38, 1e-45)
    for _ in range(dice.choice((1, 8, 64))):
        at = 4 * dice.randrange(max(1, len(data) // 4))
        if at + 4 <= len(data):
            struct.pack_into("<f", data, at, dice.choice(numbers))


def archive(data: bytearray, dice: random.Random) -> None:
    """Of a zip: change, drop, double, rename or compress a member, with right checksums and directory."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as old:
            members = [(info.filename, old.read(info)) for info in old.infolist()]
        at = dice.randrange(len(members))
    except Exception:
        number(data, dice)
        return
    name, body = members[at]
    how = zipfile.ZIP_STORED
    match dice.randrange(7):
        case 0 if body:
            changed = bytearray(body)
            dice.choice((bits, splice, number))(changed, dice)
            members[at] = name, bytes(changed)
        case 1:
            del members[at]
        case 2:
            members.append(members[at])
        case 3:
            members[at] = dice.choice(("archive/data.pkl", "../x", "data.pkl", name + "x", "\x1b[0m/data.pkl")), body
        case 4:
            how = dice.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2))
        case 5:
            members[at] = name, body[: dice.randrange(len(body) + 1)]
        case _:
            members[at], how = (name, body + bytes(dice.choice((1, 2**20, 2**24)))), zipfile.ZIP_DEFLATED
    file = io.BytesIO()
    with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(file, "w", how) as new:
        for member, content in members:
            new.writestr(member, content)
    data[:] = file.getvalue()


OPCODES = (
    *(b"cos\nsystem\n", b"cbuiltins\neval\n(X\x01\0\0\0atR", b"ctorch\nTensor\n)R", b"ccollections\nOrderedDict\n)R"),
    *(b"(" * 100, b"]" * 100, b")\x85" * 200, b"2\x86" * 40, b"h\0h\0\x86", b"\x8b\x10\0\0\0" + b"\xff" * 16, b"]h\0a"),
    *(b"\x8b\xff\xff\xff\x7f", b"X\xff\xff\xff\x7f", b"\x80\x05", b"I99999999999999999999\n", b"Q", b"0", b".", b"b", b"R"),
    *(b"ctorch\nBFloat16Storage\n", b"ctorch._utils\n_rebuild_tensor_v2\n(tR", b"}h\0h\0s", b"r\xff\xff\xff\x7f"),
    *(b"G\x7f\xf8\0\0\0\0\0\0", b"\x95\xff\xff\xff\xff\xff\xff\xff\x7f"),
)  # fmt: skip


def opcode(data: bytearray, dice: random.Random) -> None:
    """Put operations into a pickle: names of functions, nesting, what refers to itself, lengths that are not there."""
    at = dice.randrange(len(data))
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as old:
            members = [(info.filename, old.read(info)) for info in old.infolist()]
        place = next(i for i, (name, _) in enumerate(members) if name.endswith("data.pkl"))
    except Exception:
        data[at:at] = dice.choice(OPCODES)
        return
    name, body = members[place]
    at = dice.randrange(len(body) + 1)
    members[place] = name, body[:at] + dice.choice(OPCODES) + body[at:]
    file = io.BytesIO()
    with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(file, "w") as new:
        for member, content in members:
            new.writestr(member, content)
    data[:] = file.getvalue()


MUTATORS: tuple[Mutator, ...] = (*BLIND, header, tensor, config, config, value, archive, opcode)


def mutated(seed: int, files: list[tuple[str, bytes]]) -> tuple[str, bytes]:
    """(what was done, file) that the number `seed` stands for."""
    return apply(seed, files, MUTATORS, shares=(1, 1, 1, 2))


def judged(data: bytes) -> str:
    """What each door says of a file: listed, described as text and JSON, loaded and used, converted. `made` if it was loaded or
    converted. Raises what is none of liif's errors."""
    path = scratch("checkpoints") / "model.safetensors"
    path.write_bytes(data)
    (scratch("checkpoints") / "out.safetensors").unlink(missing_ok=True)
    is_ours(path)
    list(_aligned([_row(store._entry("model", path, "cached"))]))
    doors: tuple[Callable[[Path], None], ...] = (_load, _convert, _describe, _publish)
    verdicts = []
    for door in doors:
        try:
            door(path)
            verdicts.append("made")
        except LiifError as error:
            assert len(str(error)) < 4096, f"a message of {len(str(error))} characters"
            verdicts.append(f"refused: {type(error).__name__}")
    return "made" if "made" in verdicts[:2] else verdicts[0]


def _describe(path: Path) -> None:
    found = describe(str(path))
    list(_lines(found))
    json.loads(json.dumps(found, allow_nan=False))


def _publish(path: Path) -> None:
    assert prepare(path, "owner/repo").card


def _load(path: Path) -> None:
    model = store.load_model(path)
    grid = Grid.whole((4, 5), (8, 10))
    if model.supports(grid) is None:
        with torch.inference_mode():
            field = model.bind(model.encode(torch.full((1, 3, 4, 5), 0.5)), grid.rows, grid.columns)
            assert model.render(field, grid.rows, grid.columns).shape == (1, 8, 10, 3)


def _convert(path: Path) -> None:
    with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings(action="ignore"):
        converted = convert(path, scratch("checkpoints") / "out.safetensors")
    assert converted.notes() and json.dumps(converted.as_dict())
    store.load_model(converted.path)


CHECKPOINTS = Kind(seeds, mutated, judged, memory=200)
