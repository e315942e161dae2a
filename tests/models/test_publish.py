"""To the Hub and back, by the real client, against a server that takes commits; what the command line says of the Hub."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hub_server import READER, WRITER, HubServer
from huggingface_hub import ModelCard
from huggingface_hub.utils import disable_progress_bars, enable_progress_bars
from PIL import Image
from safetensors.torch import save
from test_convert import mmediting, same
from tiny_models import golden_model, tiny_config

from liif_cli.models.checkpoints import save_model
from liif_cli.models.store import load_model

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # the client's own upload
Run = Callable[..., Any]
SCORES = {"validation_psnr": {"2": 31.09, "4": 26.34}, "published_psnr": {"mmediting Set5": {"2": 35.71, "30": 18.85}}}


@pytest.fixture
def hub(desk: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """The server, with the writer's token set; tiny.safetensors on the desk."""
    made = {"iterations": 3, "recipe": {"batch": 16}, "notice": "for cats only", **SCORES}
    save_model(golden_model(tiny_config()), Path("tiny.safetensors"), licence="CC-BY-SA-4.0", provenance=made)
    with HubServer() as server:
        server.use(monkeypatch, desk / "cache")
        monkeypatch.setenv("HF_TOKEN", WRITER)
        disable_progress_bars()
        yield server
        enable_progress_bars()


def test_there_and_back(liif: Run, hub: HubServer) -> None:
    ran = liif("models", "push", "tiny.safetensors", "who/tiny")
    commit = hub.repos["model", "who/tiny"].commit
    assert (ran.code, ran.out) == (0, [f"{hub.url}/who/tiny/commit/{commit}"])
    assert hub.commits == [{"repo": "who/tiny", "files": ["README.md", "config.json", "model.safetensors"]}]
    same(load_model("hf://who/tiny"), load_model("tiny.safetensors"))
    config = json.loads(hub.repos["model", "who/tiny"].files["config.json"])
    assert config["model"]["encoder"]["features"] == 8 and config["library_name"] == "liif"
    ran = liif("models", "show", "hf://who/tiny", "--json")
    assert json.loads(ran.out[0])["revision"] == commit


def test_the_card(liif: Run, hub: HubServer) -> None:
    liif("models", "push", "tiny.safetensors", "who/tiny")
    card = ModelCard(hub.repos["model", "who/tiny"].files["README.md"].decode())
    data = card.data
    assert (data.license, data.library_name, data.pipeline_tag) == ("cc-by-sa-4.0", "liif", "image-to-image")
    assert {"super-resolution", "liif", "edsr"} <= set(data.tags)
    values = {(each.dataset_name, each.dataset_config): each.metric_value for each in data.eval_results}
    assert values["validation", "x2"] == 31.09 and values["mmediting Set5", "x30"] == 18.85
    assert "| mmediting Set5 | 35.71 |  | 18.85 |" in card.text and '"batch": 16' in card.text
    assert "not the images" in card.text and "for cats only" in card.text and "--model hf://who/tiny" in card.text


@pytest.mark.parametrize(("licence", "name"), [("My own terms", "my-own-terms"), ("unknown", "unknown")])
def test_a_licence_that_the_hub_does_not_list(liif: Run, hub: HubServer, licence: str, name: str) -> None:
    save_model(golden_model(tiny_config()), Path("x.safetensors"), licence=licence, provenance={})
    card = ModelCard("\n".join(liif("models", "push", "x.safetensors", "who/x", "--dry-run").out))
    assert (card.data.license, card.data.license_name) == ("other", name) and "Not measured." in card.text


def test_a_dry_run_asks_nobody(liif: Run, hub: HubServer) -> None:
    ran = liif("models", "push", "tiny.safetensors", "who/tiny", "--dry-run")
    assert ran.code == 0 and ran.out[0] == "---" and len(ran.err) == 3
    found = json.loads(liif("models", "push", "tiny.safetensors", "who/tiny", "--dry-run", "--json").out[0])
    assert found["commit"] is None and found["files"]["model.safetensors"] == Path("tiny.safetensors").stat().st_size
    assert hub.requests == [] and hub.repos == {}


def test_a_card_of_ones_own(liif: Run, hub: HubServer) -> None:
    Path("card.md").write_text("# Mine\n\nOf cats.\n")
    liif("models", "push", "tiny.safetensors", "who/tiny", "--card", "card.md")
    card = ModelCard(hub.repos["model", "who/tiny"].files["README.md"].decode())
    assert card.text.strip() == "# Mine\n\nOf cats." and card.data.license == "cc-by-sa-4.0"
    assert liif("models", "push", "tiny.safetensors", "who/tiny", "--card", "gone.md").code == 2


def test_scores_of_an_evaluation_are_on_the_card(liif: Run, hub: HubServer) -> None:
    Image.effect_noise((48, 48), 60).save("in.png")
    ran = liif("eval", "--dataset", "in.png", "-m", "tiny.safetensors", "-s", "2", "--json")
    Path("scores.json").write_text("\n".join(ran.out))
    (psnr,) = [row["psnr"] for row in json.loads("\n".join(ran.out))["rows"] if row["method"] == "tiny"]
    push = ("models", "push", "tiny.safetensors", "who/x", "--dry-run", "--scores", "scores.json")
    card = ModelCard("\n".join(liif(*push).out))
    assert psnr in [each.metric_value for each in card.data.eval_results]
    assert f"{psnr:.2f}" in card.text and "| mmediting Set5 |" in card.text
    for wrong in ("{}", "[", '{"rows": [1]}', '{"rows": [{"method": "other", "psnr": 3}]}'):
        Path("scores.json").write_text(wrong)
        assert liif(*push).code == 2


def test_private(liif: Run, hub: HubServer) -> None:
    assert liif("models", "push", "tiny.safetensors", "who/mine", "--private").code == 0
    assert hub.repos["model", "who/mine"].private
    assert liif("models", "push", "tiny.safetensors", "who/mine", "--private", "--json").code == 0
    hub.add("model", "who/open", {"README.md": b"old"})
    ran = liif("models", "push", "tiny.safetensors", "who/open", "--private")
    assert ran.code == 4 and "is public: nothing was sent" in ran.err[0]
    assert hub.repos["model", "who/open"].files == {"README.md": b"old"}


def test_a_new_commit_keeps_other_files(liif: Run, hub: HubServer) -> None:
    hub.add("model", "who/tiny", {"notes.txt": b"x", "model.safetensors": b"old"})
    assert liif("models", "push", "tiny.safetensors", "who/tiny").code == 0
    files = hub.repos["model", "who/tiny"].files
    assert files["notes.txt"] == b"x" and files["model.safetensors"] == Path("tiny.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("token", "repo", "says"),
    [
        ("", "who/tiny", "requires a login"),
        (READER, "who/tiny", "may not write"),
        (WRITER, "you/tiny", "may not write"),
    ],
)
def test_who_may_not(
    liif: Run, hub: HubServer, monkeypatch: pytest.MonkeyPatch, token: str, repo: str, says: str
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    ran = liif("models", "push", "tiny.safetensors", repo)
    assert ran.code == 5 and says in ran.err[0] and "nothing was sent" in ran.err[0] and len(ran.err) == 2
    assert hub.repos == {}


@pytest.mark.parametrize("place", ["/store/", "/commit/", "objects/batch"])
def test_a_failure_half_way_leaves_no_commit(
    liif: Run, hub: HubServer, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    hub.add("model", "who/tiny", {"README.md": b"old"})
    hub.refuse(place, 500)
    ran = liif("models", "push", "tiny.safetensors", "who/tiny")
    assert ran.code == 5 and "the repository is unchanged" in ran.err[0] and len(ran.err) == 2
    assert hub.commits == [] and hub.repos["model", "who/tiny"].files == {"README.md": b"old"}


def test_what_is_no_checkpoint_is_not_sent(liif: Run, hub: HubServer) -> None:
    data = bytearray(Path("tiny.safetensors").read_bytes())
    data[-4:] = torch.tensor([float("inf")]).numpy().tobytes()
    Path("broken.safetensors").write_bytes(data)
    assert liif("models", "push", "broken.safetensors", "who/tiny").code == 6
    assert liif("models", "push", "tiny.safetensors", "tiny").code == 2
    assert hub.requests == []


# Repositories that hold something else


def test_a_repository_without_our_header_is_refused_with_the_way_to_convert(liif: Run, hub: HubServer) -> None:
    theirs = {
        name.removeprefix("generator."): tensor for name, tensor in mmediting(tiny_config())["state_dict"].items()
    }
    hub.add("model", "them/raw", {"model.safetensors": save(theirs)})
    ran = liif("models", "show", "hf://them/raw@main")
    assert ran.code == 6 and ran.err[1].endswith("liif models convert hf://them/raw@main/model.safetensors")
    hub.add("model", "them/one", {"liif-edsr.safetensors": save(theirs)})
    ran = liif("models", "path", "hf://them/one")
    assert ran.code == 5 and "has no file model.safetensors" in ran.err[0]
    assert "hf://them/one/liif-edsr.safetensors" in ran.err[1] and "liif models convert" in ran.err[1]


def test_a_pth_on_the_hub_is_converted_by_its_address(liif: Run, hub: HubServer) -> None:
    torch.save(mmediting(tiny_config()), "x.pth")
    hub.add("model", "them/pth", {"liif.pth": Path("x.pth").read_bytes()})
    ran = liif("models", "path", "hf://them/pth")
    assert ran.err[1] == "Hint: liif models convert hf://them/pth/liif.pth"
    assert liif("models", "convert", "hf://them/pth/liif.pth").out == ["liif.safetensors"]
    assert load_model("liif.safetensors").config.std == (1.0, 1.0, 1.0)
    ran = liif("models", "path", "hf://them/pth/liif.pth")
    assert ran.code == 6 and ran.err[1].endswith("liif models convert hf://them/pth/liif.pth")


def test_a_cached_model_while_the_hub_is_down_is_said(liif: Run, hub: HubServer) -> None:
    liif("models", "push", "tiny.safetensors", "who/tiny")
    path = liif("models", "path", "hf://who/tiny").out
    hub.refuse("who/tiny", 503)
    ran = liif("models", "path", "hf://who/tiny")
    assert ran.code == 0 and ran.out == path and ran.err[0].startswith("Warning: cannot reach the Hub")
