"""The wheel: what it states of itself, and what is in it."""

import hashlib
import os
import re
import subprocess
import sys
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel of this tree, by its own build backend."""
    build = pytest.importorskip("hatchling.build", reason="hatchling builds the wheel: pip install 'liif[test]'")
    folder = tmp_path_factory.mktemp("wheel")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        return zipfile.ZipFile(folder / build.build_wheel(str(folder)))


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    """What `pip show` reads."""
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    return Parser().parsestr(wheel.read(name).decode())


def test_all_licences_are_stated_and_enclosed(wheel: zipfile.ZipFile, metadata: Message) -> None:
    assert metadata["License-Expression"] == "MIT AND CC-BY-SA-4.0 AND BSD-3-Clause"
    files = ["LICENSE", "weights/LICENSE", "liif_cli/viewing/page/openseadragon.LICENSE.txt"]
    assert sorted(metadata.get_all("License-File", [])) == sorted(files)
    texts = {name.partition("/licenses/")[2]: wheel.read(name) for name in wheel.namelist() if "/licenses/" in name}
    assert texts == {name: (ROOT / name).read_bytes() for name in files}
    assert b"MIT License" in texts["LICENSE"] and b"Attribution-ShareAlike 4.0" in texts["weights/LICENSE"]


def test_the_author_is_that_of_the_licence(metadata: Message) -> None:
    assert f"Copyright (c) 2026 {metadata['Author']}" in (ROOT / "LICENSE").read_text()


def test_the_dockerfile_of_the_documents_installs_as_the_readme_does() -> None:
    (block,) = re.findall(r"```dockerfile\n(.*?)```", (ROOT / "docs" / "command-line.md").read_text("utf-8"), re.DOTALL)
    lines = dict(line.split(" ", 1) for line in block.splitlines() if line and line[0] != "#")
    assert len(block.splitlines()) <= 10
    python = tuple(map(int, re.findall(r"\d+", lines["FROM"])[:2]))
    assert python >= (3, 11) and lines["ENTRYPOINT"] == '["liif"]'
    installs = re.search(r"pip install (-c constraints.txt \.)", (ROOT / "README.md").read_text("utf-8"))
    assert installs and installs[1] in lines["RUN"]


def test_the_project_s_addresses(metadata: Message) -> None:
    urls = dict(line.split(", ") for line in metadata.get_all("Project-URL", []))
    assert urls["Paper"] == "https://arxiv.org/abs/2012.09161" and len(urls) >= 2


def test_the_weights_and_their_card_are_inside(wheel: zipfile.ZipFile) -> None:
    inside = set(wheel.namelist())
    assert {"liif_cli/weights/README.md", "liif_cli/weights/LICENSE"} <= inside
    assert {f"liif_cli/weights/{path.name}" for path in (ROOT / "weights").glob("*.safetensors")} <= inside
    assert not [name for name in inside if name.split("/")[0] in ("tests", "docs", "weights")]


def test_the_page_and_openseadragon_are_inside(wheel: zipfile.ZipFile) -> None:
    page = ROOT / "liif_cli" / "viewing" / "page"
    inside = {
        Path(name).name: wheel.read(name) for name in wheel.namelist() if name.startswith("liif_cli/viewing/page/")
    }
    assert inside == {file.name: file.read_bytes() for file in page.iterdir()}
    assert {"index.html", "openseadragon.min.js", "openseadragon.LICENSE.txt"} <= set(inside)


@pytest.mark.weights
def test_an_installed_model_is_held_against_the_package_s_record(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path)
    model = tmp_path / "liif_cli" / "weights" / "edsr-baseline-liif.safetensors"
    if not model.exists():
        pytest.skip("no weights are shipped here")
    recorded = hashlib.sha256(model.read_bytes()).hexdigest()
    data = bytearray(model.read_bytes())
    data[-2] ^= 1  # the last bit of the last bias: still a number
    model.write_bytes(data)
    call = [sys.executable, "-m", "liif_cli", "models", "verify", "edsr-baseline-liif"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "LIIF_NO_CONFIG": "1"}
    done = subprocess.run(call, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 6 and f"not {recorded}" in done.stderr
