"""Store a trained checkpoint in `weights/`, in float16: `python tests/tools/make_weights.py RUN/NAME.safetensors`.

The layers of a LIIF decoder after the first are also rounded to the precision of bf16, so that rendering in bf16 uses exactly
the weights of the file. The header keeps the provenance. If the checkpoint was trained further from the weights that it
replaces, their provenance is kept under `before`. With `--share`, the stored weights are interpolated between the two; an
average of a model and its continuation is often better than both. Afterwards, run `tests/tools/make_tables.py` to update the
scores in the model card, the README and the docs.
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
    parser.add_argument("--trained", metavar="TEXT", help="a description of the stages since the replaced weights")
    parser.add_argument("--share", type=float, default=1.0, help="share of the new weights in the average")
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
