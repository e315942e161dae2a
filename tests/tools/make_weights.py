"""Put a trained checkpoint in its place in `weights/`, in float16: `python tests/tools/make_weights.py RUN/NAME.safetensors`.

A LIIF decoder's layers behind the first are rounded to what bf16 holds too, so that the renderer's fast path computes with the
very weights of the file. The header keeps how it was trained; where it goes on from the weights that it replaces, their
header's account stays with it, under `before`. With `--share`, what is stored lies between the two, weight by weight: an
average of a model and its continuation is often better than both. The tables of the card and of the README are then made anew
by `tests/tools/make_tables.py`.
"""

import argparse
from pathlib import Path

import torch

from liif_cli.models.checkpoints import save_model
from liif_cli.models.restore import between
from liif_cli.models.store import find

WEIGHTS = Path(__file__).parents[2] / "weights"
KEPT = ("before", "initial", "iterations", "started_from", "trained_here")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--trained", metavar="TEXT", help="the stages since the weights that are replaced, in words")
    parser.add_argument("--share", type=float, default=1.0, help="of the new weights, the rest being those replaced")
    chosen = parser.parse_args()
    new = find(str(chosen.checkpoint))
    target = WEIGHTS / chosen.checkpoint.name
    model = new.load(torch.device("cpu"))
    if new.header.model["decoder"]["name"] == "liif":
        for linear in model.decoder.imnet.linears[1:]:
            linear.bfloat16().float()
    provenance = dict(new.header.provenance)
    if chosen.trained:
        provenance["trained_here"] = chosen.trained
    if target.exists() and target.stem in str(provenance.get("started_from")):
        old = find(str(target)).header.provenance
        provenance["before"] = {key: old[key] for key in KEPT if key in old}
    if chosen.share != 1:
        model = between(find(str(target)).load(torch.device("cpu")), model, chosen.share)
        provenance = {key: value for key, value in provenance.items() if not key.startswith("validation")}
        provenance["share"] = chosen.share
    save_model(model, target, licence=new.header.licence, provenance=provenance, dtype=torch.float16)
    print(target)


if __name__ == "__main__":
    main()
