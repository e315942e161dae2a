"""A local server that answers as the Hugging Face Hub does, for the real huggingface_hub client.

    with HubServer() as hub:
        hub.add("dataset", "someone/Set14", {"data/Set14_HR.tar.gz": payload, "README.md": b"..."})
        hub.use(monkeypatch, tmp_path)          # this process: endpoint and caches
        subprocess.run(..., env=os.environ | hub.environment(tmp_path))     # or another one
        ...
        assert hub.requests                     # "GET /api/datasets/someone/Set14/revision/main", ...

Files of `LFS_SUFFIXES` are served as the Hub serves LFS files: the ETag is their sha256 and the download is a
redirect to another origin; the others carry their git blob id. `hub.corrupt(...)` serves wrong bytes of the right
length under the right hash.
"""

import hashlib
import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit

LFS_SUFFIXES = (".gz", ".zip", ".safetensors", ".pth", ".tar")
_API = re.compile(r"/api/(model|dataset)s/([^/]+/[^/]+)(?:/(revision|tree|paths-info)/([^/]+))?(?:/(.*))?$")
_RESOLVE = re.compile(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)$")
_STORE = re.compile(r"/store/([0-9a-f]{64})$")


class Repo:
    """The files of one repository, all in one commit."""

    def __init__(self, files: dict[str, bytes], private: bool = False) -> None:
        self.files, self.private = dict(files), private
        listing = "".join(f"{name} {hashlib.sha256(data).hexdigest()}\n" for name, data in sorted(files.items()))
        self.commit = hashlib.sha1(listing.encode()).hexdigest()

    def entry(self, name: str) -> dict[str, object]:
        data = self.files[name]
        entry: dict[str, object] = {"type": "file", "path": name, "size": len(data), "oid": blob_id(data)}
        if name.endswith(LFS_SUFFIXES):
            entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 132}
        return entry


class HubServer:
    """The server: a context manager. `url` is what HF_ENDPOINT should say; `requests` is what was asked so far."""

    def __init__(self) -> None:
        self.repos: dict[tuple[str, str], Repo] = {}
        self.requests: list[str] = []
        self.store: dict[str, bytes] = {}
        handler = type("Handler", (_Handler,), {"hub": self})
        self._servers = [ThreadingHTTPServer(("127.0.0.1", 0), handler) for _ in ("the Hub", "its content network")]
        self._threads = [Thread(target=server.serve_forever, args=(0.02,), daemon=True) for server in self._servers]
        self.url, self.store_url = (f"http://127.0.0.1:{server.server_address[1]}" for server in self._servers)

    def __enter__(self) -> "HubServer":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for server, thread in zip(self._servers, self._threads, strict=True):
            server.shutdown()
            server.server_close()
            thread.join()

    def add(self, kind: str, repo_id: str, files: dict[str, bytes] | Path) -> Repo:
        """Serve `files` (names to bytes, or a folder) as the repository of kind "model" or "dataset"."""
        if isinstance(files, Path):
            found = [file for file in sorted(files.rglob("*")) if file.is_file()]
            files = {file.relative_to(files).as_posix(): file.read_bytes() for file in found}
        repo = self.repos[kind, repo_id] = Repo(files)
        self.store |= {hashlib.sha256(data).hexdigest(): data for data in repo.files.values()}
        return repo

    def corrupt(self, kind: str, repo_id: str, name: str) -> None:
        """From now on send other bytes of the same length for `name`, under the hash of the right ones."""
        data = self.repos[kind, repo_id].files[name]
        self.store[hashlib.sha256(data).hexdigest()] = bytes([data[0] ^ 1]) + data[1:]

    def environment(self, cache: Path) -> dict[str, str]:
        """What another process needs in its environment to ask this server and to keep its caches in `cache`."""
        return {"HF_ENDPOINT": self.url, "HF_HOME": str(cache), "HF_HUB_DISABLE_TELEMETRY": "1", "HF_TOKEN": ""}

    def use(self, monkeypatch, cache: Path) -> None:  # type: ignore[no-untyped-def]
        """Point the huggingface_hub of this process at this server; it read its environment when imported."""
        from huggingface_hub import constants

        monkeypatch.setattr(constants, "ENDPOINT", self.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", self.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache / "hub"))
        monkeypatch.setattr(constants, "HF_ASSETS_CACHE", str(cache / "assets"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


def blob_id(data: bytes) -> str:
    """Git's name for a file with these contents."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def card_data(files: dict[str, bytes]) -> dict[str, str]:
    """The plain `key: value` lines at the top of README.md, which the Hub serves as the card's data."""
    front = re.match(rb"---\n(.*?)\n---\n", files.get("README.md", b""), re.DOTALL)
    return dict(re.findall(r"^(\w+): (.+)$", front[1].decode(), re.MULTILINE)) if front else {}


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Stay silent."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {path}")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if match := _STORE.match(path):
            self._send_file(self.hub.store[match[1]], {"ETag": f'"{match[1]}"'})
        elif match := _API.match(path):
            self._api(match[1], match[2], match[3] or "revision", match[4] or "main", body)
        elif match := _RESOLVE.match(path):
            self._resolve("dataset" if match[1] else "model", match[2], match[3], match[4])
        else:
            self._refuse(404, "EntryNotFound", "no such page")

    def _repo(self, kind: str, repo_id: str, revision: str) -> Repo | None:
        repo = self.hub.repos.get((kind, repo_id))
        if repo is None:  # as the Hub: whether it is private or absent is not said
            self._refuse(401, "RepoNotFound", "Repository not found")
        elif revision not in ("main", repo.commit):
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        else:
            return repo
        return None

    def _api(self, kind: str, repo_id: str, question: str, revision: str, body: bytes) -> None:
        if (repo := self._repo(kind, repo_id, revision)) is None:
            return
        entries = [repo.entry(name) for name in sorted(repo.files)]
        if question == "tree":
            self._send_json(entries)
        elif question == "paths-info":
            asked = body.decode()
            self._send_json([entry for entry in entries if str(entry["path"]) in unquote(asked)])
        else:
            siblings = [{"rfilename": name} for name in sorted(repo.files)]
            about = {"id": repo_id, "sha": repo.commit, "siblings": siblings, "private": repo.private, "tags": []}
            self._send_json(about | {"cardData": card_data(repo.files)})

    def _resolve(self, kind: str, repo_id: str, revision: str, name: str) -> None:
        if (repo := self._repo(kind, repo_id, revision)) is None:
            return
        if name not in repo.files:
            self._refuse(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": repo.commit})
            return
        data = repo.files[name]
        digest = hashlib.sha256(data).hexdigest()
        headers = {"X-Repo-Commit": repo.commit, "Accept-Ranges": "bytes"}
        if not name.endswith(LFS_SUFFIXES):
            self._send_file(self.hub.store[digest], headers | {"ETag": f'"{blob_id(data)}"'})
            return
        linked = {"X-Linked-Size": str(len(data)), "X-Linked-Etag": f'"{digest}"', "ETag": f'"{digest}"'}
        self._send(302, b"", headers | linked | {"Location": f"{self.hub.store_url}/store/{digest}"})

    def _send_json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send_file(self, data: bytes, headers: dict[str, str]) -> None:
        """The whole file, or what a Range header asks for."""
        wanted = re.match(r"bytes=(\d+)-(\d*)$", self.headers.get("Range") or "")
        if not wanted:
            self._send(200, data, headers)
            return
        first, last = int(wanted[1]), int(wanted[2] or len(data) - 1)
        span = {"Content-Range": f"bytes {first}-{last}/{len(data)}"}
        self._send(206, data[first : last + 1], headers | span)

    def _refuse(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        self._send(status, b"", {"X-Error-Code": code, "X-Error-Message": message} | (headers or {}))

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
