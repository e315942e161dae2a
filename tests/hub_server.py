"""A local server that answers as the Hugging Face Hub does, for the real huggingface_hub client.

    with HubServer() as hub:
        hub.add("dataset", "someone/Set14", {"data/Set14_HR.tar.gz": payload, "README.md": b"..."})
        hub.use(monkeypatch, tmp_path)          # this process: endpoint and caches
        subprocess.run(..., env=os.environ | hub.environment(tmp_path))     # or another one
        ...
        assert hub.requests                     # "GET /api/datasets/someone/Set14/revision/main", ...

Files of `LFS_SUFFIXES` are served as the Hub serves LFS files: the ETag is their sha256 and the download is a
redirect to another origin; the others carry their git blob id. `hub.corrupt(...)` serves wrong bytes of the right
length under the right hash, `hub.truncate(...)` half of them, `hub.refuse(...)` a status.

Repositories are created and committed to with the token `WRITER`, by the user `who`; `READER` may only read, and private
repositories are read with either. Large files arrive as the Hub takes them by LFS (the client's HF_HUB_DISABLE_XET=1).
"""

import base64
import hashlib
import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit

LFS_SUFFIXES = (".gz", ".zip", ".safetensors", ".pth", ".tar")
_API = re.compile(
    r"/api/(model|dataset)s/([^/]+/[^/]+)(?:/(revision|tree|paths-info|preupload|commit)/([^/]+))?(?:/(.*))?$"
)
_RESOLVE = re.compile(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)$")
_STORE = re.compile(r"/store/([0-9a-f]{64})$")
_LFS = re.compile(r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch$")
READER, WRITER = "hf_reader", "hf_writer"


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
        self.truncated: set[str] = set()
        self.refusals: dict[str, tuple[int, dict[str, str]]] = {}
        self.commits: list[dict[str, object]] = []
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

    def add(self, kind: str, repo_id: str, files: dict[str, bytes] | Path, private: bool = False) -> Repo:
        """Serve `files` (names to bytes, or a folder) as the repository of kind "model" or "dataset"."""
        if isinstance(files, Path):
            found = [file for file in sorted(files.rglob("*")) if file.is_file()]
            files = {file.relative_to(files).as_posix(): file.read_bytes() for file in found}
        repo = self.repos[kind, repo_id] = Repo(files, private)
        self.store |= {hashlib.sha256(data).hexdigest(): data for data in repo.files.values()}
        return repo

    def corrupt(self, kind: str, repo_id: str, name: str) -> None:
        """From now on send other bytes of the same length for `name`, under the hash of the right ones."""
        data = self.repos[kind, repo_id].files[name]
        self.store[hashlib.sha256(data).hexdigest()] = bytes([data[0] ^ 1]) + data[1:]

    def truncate(self, kind: str, repo_id: str, name: str) -> None:
        """From now on end the connection after half of `name`."""
        self.truncated.add(hashlib.sha256(self.repos[kind, repo_id].files[name]).hexdigest())

    def refuse(self, path: str, status: int, code: str = "", message: str = "", **headers: str) -> None:
        """From now on answer every request whose path contains `path` with `status`."""
        errors = {"X-Error-Code": code, "X-Error-Message": message} if code or message else {}
        self.refusals[path] = status, errors | {key.replace("_", "-"): value for key, value in headers.items()}

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
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(cache / "token"))
        monkeypatch.delenv("HF_TOKEN", raising=False)


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

    def do_PUT(self) -> None:
        self._answer()

    def _body(self) -> bytes:
        """What was sent, in one piece or in chunks."""
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    @property
    def _token(self) -> str:
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ")

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {path}")
        body = self._body()
        refusal = next((refusal for part, refusal in self.hub.refusals.items() if part in path), None)
        if refusal is not None:
            self._send(refusal[0], b"", refusal[1])
        elif self.command == "PUT" and (match := _STORE.match(path)):
            self.hub.store[match[1]] = body
            self._send(200, b"", {})
        elif match := _STORE.match(path):
            self._send_file(self.hub.store[match[1]], {"ETag": f'"{match[1]}"'})
        elif path == "/api/repos/create":
            self._create(json.loads(body))
        elif path == "/api/validate-yaml":
            self._send_json({"errors": [], "warnings": []})
        elif match := _LFS.match(path):
            self._batch(json.loads(body))
        elif (match := _API.match(path)) and match[3] in ("preupload", "commit"):
            self._write(match[2], match[3], body)
        elif match := _API.match(path):
            self._api(match[1], match[2], match[3] or "revision", match[4] or "main", body)
        elif match := _RESOLVE.match(path):
            self._resolve("dataset" if match[1] else "model", match[2], match[3], match[4])
        else:
            self._refuse(404, "EntryNotFound", "no such page")

    def _repo(self, kind: str, repo_id: str, revision: str) -> Repo | None:
        repo = self.hub.repos.get((kind, repo_id))
        if repo is None or (
            repo.private and self._token not in (READER, WRITER)
        ):  # as the Hub: whether it is private or absent is not said
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

    def _may_write(self, repo_id: str) -> bool:
        if self._token not in (READER, WRITER):
            self._refuse(401, "", "Invalid username or password.")
        elif self._token == READER or not repo_id.startswith("who/"):
            self._refuse(403, "", "You don't have the rights to write here")
        else:
            return True
        return False

    def _create(self, asked: dict[str, str]) -> None:
        repo_id = f"{asked.get('organization') or 'who'}/{asked['name']}"
        if not self._may_write(repo_id):
            return
        if ("model", repo_id) in self.hub.repos:
            self._send(
                409,
                json.dumps(
                    {"error": "You already created this model repo", "url": f"{self.hub.url}/{repo_id}"}
                ).encode(),
                {},
            )
            return
        self.hub.add("model", repo_id, {}, private=asked.get("visibility") == "private")
        self._send_json({"url": f"{self.hub.url}/{repo_id}"})

    def _batch(self, asked: dict[str, list[dict[str, object]]]) -> None:
        """Where large files are to be sent; nowhere if they are here."""
        answers = []
        for each in asked["objects"]:
            upload = {"upload": {"href": f"{self.hub.store_url}/store/{each['oid']}"}}
            answers.append(each | ({} if each["oid"] in self.hub.store else {"actions": upload}))
        self._send_json({"transfer": "basic", "objects": answers})

    def _write(self, repo_id: str, question: str, body: bytes) -> None:
        if not self._may_write(repo_id) or (repo := self._repo("model", repo_id, "main")) is None:
            return
        if question == "preupload":
            names = [str(file["path"]) for file in json.loads(body)["files"]]
            modes = [{"path": n, "uploadMode": "lfs" if n.endswith(LFS_SUFFIXES) else "regular"} for n in names]
            self._send_json({"files": [mode | {"shouldIgnore": False} for mode in modes]})
            return
        files = dict(repo.files)
        lines = [json.loads(line) for line in body.splitlines()]
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.store[value["oid"]]
        commit = self.hub.add("model", repo_id, files, private=repo.private).commit
        self.hub.commits.append({"repo": repo_id, "files": [line["value"].get("path") for line in lines[1:]]})
        self._send_json({"commitUrl": f"{self.hub.url}/{repo_id}/commit/{commit}", "commitOid": commit})

    def _send_json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send_file(self, data: bytes, headers: dict[str, str]) -> None:
        """The whole file, or what a Range header asks for."""
        end = len(data) // 2 if headers.get("ETag", "").strip('"') in self.hub.truncated else None
        wanted = re.match(r"bytes=(\d+)-(\d*)$", self.headers.get("Range") or "")
        if not wanted:
            self._send(200, data, headers, end)
            return
        first, last = int(wanted[1]), int(wanted[2] or len(data) - 1)
        span = {"Content-Range": f"bytes {first}-{last}/{len(data)}"}
        self._send(206, data[first : last + 1], headers | span, None if end is None else max(end - first, 0))

    def _refuse(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        self._send(status, b"", {"X-Error-Code": code, "X-Error-Message": message} | (headers or {}))

    def _send(self, status: int, body: bytes, headers: dict[str, str], sent: int | None = None) -> None:
        self.send_response(status)
        for key, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:sent])
        if sent is not None:
            self.close_connection = True
