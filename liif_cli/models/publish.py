"""Publishes a checkpoint on the Hugging Face Hub: model, config and card in one commit."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from liif_cli.errors import LiifError, ModelNotFound, OutputError, UsageError
from liif_cli.models import hub
from liif_cli.models.checkpoints import Header, count_parameters
from liif_cli.models.describe import what_licence_means
from liif_cli.models.schema import parse
from liif_cli.models.store import HUB_FILE, find, published_scores

HUB_LICENCES = {"apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "unlicense", "gpl-3.0", "lgpl-3.0"} | {
    f"cc-by{kind}-4.0" for kind in ("", "-sa", "-nc", "-nc-sa", "-nd", "-nc-nd")
}


@dataclass(frozen=True)
class Publication:
    """The files to send to `repo`: name in the repository -> contents, or a file on this machine."""

    repo: str
    files: Mapping[str, bytes | Path]

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of each file."""
        return {n: len(f) if isinstance(f, bytes) else f.stat().st_size for n, f in self.files.items()}

    @property
    def card(self) -> str:
        """The card, Markdown."""
        card = self.files["README.md"]
        return card.decode() if isinstance(card, bytes) else card.read_text(encoding="utf-8")


Scores = Mapping[str, Mapping[str, float]]


def prepare(
    model: str | Path, repo: str, *, text: str | None = None, rows: Iterable[Mapping[str, Any]] = ()
) -> Publication:
    """The files that `push` sends for a checkpoint, which is read completely first. Does not use the network.

    repo: owner/name. text: Markdown for the card that replaces the text made from the checkpoint's provenance. rows: of an
    evaluation, as in its JSON, for the card's scores, in addition to the checkpoint's own.
    Raises `UsageError`, `ModelNotFound` and `CheckpointError`.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
        raise UsageError(f"{repo!r} is not a repository", hint="use owner/name")
    found = find(model)
    found.load()
    parameters = count_parameters(found.path)
    scores = published_scores(found.header.provenance) | _measured(rows, found.name)
    front = _front_matter(found.header, repo, scores)
    body = text or "\n".join(_body(found.header, repo, parameters, scores))
    config = {
        "library_name": "liif",
        "schema": found.header.schema,
        "parameters": parameters,
        "licence": found.header.licence,
    }
    config["model"] = found.header.model
    return Publication(
        repo,
        {
            "README.md": f"{front}\n{body}".encode(),
            "config.json": (json.dumps(config, indent=2) + "\n").encode(),
            HUB_FILE: found.path,
        },
    )


def _measured(rows: Iterable[Mapping[str, Any]], name: str) -> dict[str, dict[str, float]]:
    """The PSNR of one model in an evaluation's rows: `protocol set` -> scale -> dB."""
    scores: dict[str, dict[str, float]] = {}
    methods = set()
    try:
        for row in rows:
            methods.add(str(row["method"]))
            if row["method"] == name and row["psnr"] is not None:
                what = f"{row['protocol']}{'' if row['standard'] else ' (non-standard LR)'} {row['dataset']}"
                scores.setdefault(what, {})[str(row["scale"])] = float(row["psnr"])
    except (KeyError, TypeError, ValueError):
        raise UsageError("the scores are not the JSON of an evaluation: its rows have other keys") from None
    if methods and not scores:
        raise UsageError(f"the scores have no method {name!r}; they have {', '.join(sorted(methods))}")
    return scores


def _front_matter(header: Header, repo: str, measured: Scores) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    licence = header.licence.lower()
    listed = licence in HUB_LICENCES
    parts = _parts(header)
    results = [
        EvalResult(
            "image-to-image",
            _slug(what),
            what,
            "psnr",
            psnr,
            dataset_config=f"x{scale}",
            metric_name=f"PSNR x{scale}, dB",
        )
        for what, scores in measured.items()
        for scale, psnr in scores.items()
    ]
    data = ModelCardData(
        library_name="liif",
        pipeline_tag="image-to-image",
        tags=[
            "super-resolution",
            "image-upscaling",
            "arbitrary-scale",
            "liif",
            *(part for part in parts if part != "liif"),
        ],
        model_name=repo.split("/")[1],
        eval_results=results or None,
        license=licence if listed else "other",
        license_name=None if listed else _slug(licence),
    )
    return f"---\n{data.to_yaml()}\n---\n"


def _parts(header: Header) -> list[str]:
    """The names of encoder and decoder; a config may omit the defaults."""
    from liif_cli.models.registry import ModelConfig

    config = parse(ModelConfig, header.model)
    return [config.encoder.name, config.decoder.name]


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9.-]+", "-", text.lower()).strip("-") or "unknown"


def _body(header: Header, repo: str, parameters: int, scores: Scores) -> Iterable[str]:
    """The lines of the card, made from the checkpoint's header."""
    encoder, decoder = (part.upper() for part in _parts(header))
    yield from [
        f"# {repo.split('/')[1]}",
        "",
        f"{encoder} encoder and {decoder} decoder, {parameters:,} parameters.",
        "",
    ]
    yield "Upscales images by any factor with [LIIF](https://arxiv.org/abs/2012.09161), a local implicit image function."
    yield from ["", "## Use", "", "```sh", f"liif upscale photo.jpg --scale 4 --model hf://{repo}", "```", ""]
    yield from _score_table(scores)
    made = {key: value for key, value in header.provenance.items() if key not in ("validation_psnr", "published_psnr")}
    yield from ["## How it was made", "", "```json", json.dumps(made, indent=2), "```", ""]
    yield from ["## Licence", "", f"{header.licence}. {what_licence_means(header.licence)}"]
    if header.provenance.get("notice"):
        yield from ["", f"Note: {header.provenance['notice']}."]
    yield ""


def _score_table(scores: Scores) -> Iterable[str]:
    yield from ["## Scores", ""]
    if not scores:
        yield from ["Not measured.", ""]
        return
    scales = sorted({scale for values in scores.values() for scale in values}, key=float)
    yield from ["PSNR in dB.", "", f"| | {' | '.join(f'×{s}' for s in scales)} |", "|---" + "|--:" * len(scales) + "|"]
    for what, values in scores.items():
        yield f"| {what} | {' | '.join(f'{values[s]:.2f}' if s in values else '' for s in scales)} |"
    yield ""


def push(publication: Publication, *, private: bool = False) -> str:
    """Send the files in one commit, creating the repository if needed; returns the commit's address.

    Raises `ModelNotFound` (no token, no permission, no network) and `OutputError` (`private`, but the repository is public).
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi()
    try:
        api.create_repo(publication.repo, private=private or None, exist_ok=True)
        if private and not api.model_info(publication.repo).private:
            raise OutputError(
                f"the model {publication.repo} on the Hub exists and is public: nothing was sent",
                hint="make it private on its page, or choose another name",
            )
        added = [CommitOperationAdd(name, content) for name, content in publication.files.items()]
        return str(
            api.create_commit(publication.repo, added, commit_message="Model, config and card by liif").commit_url
        )
    except LiifError:
        raise
    except Exception as error:
        raise _refusal(publication.repo, error) from error


def _refusal(repo: str, error: Exception) -> Exception:
    """The user's error for a commit that the Hub refused; any other error unchanged."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    status = hub.status(error)
    if status == 401:
        return ModelNotFound(
            "the Hub requires a login: nothing was sent", hint="set HF_TOKEN to a token with write access"
        )
    if status == 403:
        return ModelNotFound(
            f"the token may not write to {repo}: nothing was sent", hint="use a token with write access"
        )
    if (explained := hub.explain(repo, "model", error)) is not None:
        return explained
    if isinstance(error, OfflineModeIsEnabled):
        return ModelNotFound("HF_HUB_OFFLINE is set: nothing was sent", hint="unset it to publish")
    if isinstance(error, OSError | RuntimeError) or hub.is_network(error):
        cause = error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ else error
        reason = (str(cause).strip() or type(cause).__name__).splitlines()[0]
        return ModelNotFound(f"the commit to {repo} failed and the repository is unchanged: {reason}", hint="try again")
    return error
