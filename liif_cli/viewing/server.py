"""The server: the IIIF Image API 3.0 under /iiif/, and the viewer's page.

`/iiif/3/ID/...` is the image at its own size. `/iiif/xN/ID/...` presents it N times larger per side, for clients that do not
zoom beyond 100%. The query (`method`, `model`, `cell`, `restore`) says how it is enlarged.
"""

import hashlib
import ipaddress
import json
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, cast
from urllib.parse import parse_qsl, quote, unquote_to_bytes

from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from liif_cli import __version__
from liif_cli.errors import LiifError
from liif_cli.models.restore import parse_restore
from liif_cli.rendering.sizes import Cell
from liif_cli.viewing.collection import Collection
from liif_cli.viewing.iiif import (
    CONTEXT,
    LARGEST,
    MEDIA_TYPES,
    PROFILE,
    Canvas,
    Limits,
    Refused,
    information,
    manifest,
    parse,
)
from liif_cli.viewing.iiif import Request as Wanted
from liif_cli.viewing.images import METHODS, Images, Look, encoded, version
from liif_cli.viewing.render_queue import RenderQueue

PAGE = Path(__file__).with_name("page")
ASSETS = {
    "": ("index.html", "text/html; charset=utf-8"),
    "viewer.js": ("viewer.js", "text/javascript; charset=utf-8"),
    "viewer.css": ("viewer.css", "text/css; charset=utf-8"),
    "openseadragon.min.js": ("openseadragon.min.js", "text/javascript; charset=utf-8"),
    "openseadragon.LICENSE.txt": ("openseadragon.LICENSE.txt", "text/plain; charset=utf-8"),
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'"
)
SHOWN = 1000  # images listed on the page
LONGEST = 4096  # bytes of a path
OPTIONS = ("method", "model", "cell", "restore", "download")
CORS = {"access-control-allow-origin": "*", "access-control-expose-headers": "Link, ETag, Server-Timing"}


@dataclass
class Service:
    """The request handlers, with the images to serve and the limits of outputs."""

    collection: Collection
    images: Images
    limits: Limits
    queue: RenderQueue

    async def iiif(self, request: HttpRequest) -> Response:
        """Respond to any request below /iiif/."""
        try:
            return await self._answer(request)
        except Refused as error:
            return refusal(error)
        except LiifError as error:
            return refusal(Refused(400, str(error)))

    async def _answer(self, request: HttpRequest) -> Response:
        if request.method == "OPTIONS":
            return Response(status_code=204, headers=CORS | {"access-control-allow-methods": "GET, HEAD, OPTIONS"})
        parts = segments(request.scope)
        factor, identifier = factor_of(parts[0]), parts[1] if len(parts) > 1 else ""
        path = self.collection.find(identifier)
        if path is None:
            raise Refused(404, "there is no such image")
        address = f"{request.url.scheme}://{request.url.netloc}/iiif/{parts[0]}/{quote(identifier, safe='')}"
        if len(parts) == 2 or (len(parts) == 3 and not parts[2]):
            query = f"?{request.url.query}" if request.url.query else ""
            return RedirectResponse(f"{address}/info.json{query}", 303, CORS)
        header = self.images.header(path)
        canvas = Canvas(header.width, header.height, factor)
        if parts[2:] == ["info.json"]:
            return self._information(request, canvas, address)
        if parts[2:] == ["manifest.json"]:
            return JSONResponse(manifest(canvas, address, identifier, self.limits), headers=CORS)
        if len(parts) != 6:
            raise Refused(404, "expected {region}/{size}/{rotation}/{quality}.{format}, info.json or manifest.json")
        wanted = parse(canvas, parts[2], parts[3], parts[4], parts[5], self.limits)
        return await self._image(request, wanted, path, address)

    def _information(self, request: HttpRequest, canvas: Canvas, address: str) -> Response:
        content = json.dumps(information(canvas, address, self.limits)).encode()
        linked = "application/ld+json" in request.headers.get("accept", "")
        media = f'application/ld+json;profile="{CONTEXT}"' if linked else "application/json"
        headers = CORS | {"etag": etag(content), "cache-control": "no-cache", "vary": "Accept"}
        if matches(request, headers["etag"]):
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=media, headers=headers)

    async def _image(self, request: HttpRequest, wanted: Wanted, path: Path, address: str) -> Response:
        look, download = self.look(request.url.query)
        names = (*version(path), self.images.models.revision(look.model), look, wanted.canvas, wanted.canonical)
        tag = etag(repr((__version__, names)).encode())
        headers = CORS | {"etag": tag, "cache-control": "max-age=600"}
        headers["link"] = f'<{address}/{wanted.canonical}>;rel="canonical", <{PROFILE}>;rel="profile"'
        if download:
            headers["content-disposition"] = f"attachment; filename*=UTF-8''{quote(download, safe='')}"
        if matches(request, tag):
            return Response(status_code=304, headers=headers)
        spent: list[float] = []
        file = await self.queue.get(tag, lambda: self._make(path, wanted, look, spent), lambda: left(request))
        if file is None:
            return Response(status_code=499)  # the client has disconnected
        if spent:  # rendered now, not taken from the cache
            headers["server-timing"] = f"render;dur={1000 * spent[0]:.1f}"
        return Response(file, media_type=MEDIA_TYPES[wanted.format], headers=headers)

    def _make(self, path: Path, wanted: Wanted, look: Look, spent: list[float]) -> bytes:
        """The requested file. spent: the seconds are appended to it."""
        started = perf_counter()
        pixels = self.images.render(path, wanted.grid, look)
        file = encoded(pixels, wanted.mirrored, wanted.turn, wanted.quality, wanted.format)
        spent.append(perf_counter() - started)
        return file

    def look(self, query: str) -> tuple[Look, str]:
        """Parse a query: how to enlarge the image, and the file name of a download ("" for none).

        Raises `Refused` (400), `UsageError`.
        """
        try:
            given = dict(parse_qsl(query, keep_blank_values=True, max_num_fields=8, errors="strict"))
        except ValueError:
            raise Refused(400, "cannot parse the query") from None
        given = {name: value for name, value in given.items() if name in OPTIONS}
        if any(len(value) > 200 for value in given.values()):
            raise Refused(400, "a value in the query is too long")
        names = self.images.models.names
        method, model = given.get("method", METHODS[0]), given.get("model", names[0])
        if method not in METHODS:
            raise Refused(400, f"{method!r} is not a method; use {', '.join(METHODS)}")
        if model not in names:
            raise Refused(400, f"{model!r} is not a model of this server; use {', '.join(names)}")
        if method != METHODS[0]:
            return Look(names[0], cast(Any, method)), given.get("download", "")
        restore = parse_restore(given.get("restore", "0"))
        strength = round(restore * 20) / 20 if restore != "auto" else 0.0
        return Look(model, "network", Cell.parse(given.get("cell", "raw")), strength), given.get("download", "")

    async def contents(self, request: HttpRequest) -> Response:
        """The data for the page as JSON: images, models, methods and limits."""
        models = self.images.models
        about = {
            "images": [{"id": identifier} for identifier in self.collection.identifiers()[:SHOWN]],
            "models": [{"name": name, "restores": models.restores(name)} for name in models.names],
            "methods": METHODS,
            "largest": LARGEST,
            "maxWidth": self.limits.width,
            "maxArea": self.limits.area,
            "version": __version__,
        }
        return JSONResponse(about, headers={"cache-control": "no-store"})


async def left(request: HttpRequest) -> None:
    """Returns when the client has disconnected."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def refusal(error: Refused) -> Response:
    """The JSON response for an error."""
    headers = CORS | {"cache-control": "no-store"} | ({"retry-after": "1"} if error.status == 503 else {})
    return JSONResponse({"status": error.status, "error": str(error)}, error.status, headers)


def segments(scope: Scope) -> list[str]:
    """The segments of a path after /iiif/, each percent-decoded. Raises `Refused` (400, 414)."""
    raw = cast(bytes, scope.get("raw_path") or quote(scope["path"]).encode()).partition(b"?")[0]
    if len(raw) > LONGEST:
        raise Refused(414, "the address is too long")
    try:
        parts = [unquote_to_bytes(part).decode() for part in raw.split(b"/")[2:]]
    except UnicodeDecodeError:
        raise Refused(400, "the address is not UTF-8") from None
    if any("\0" in part for part in parts):
        raise Refused(400, "the address contains a zero byte")
    return parts


def factor_of(segment: str) -> int:
    """The factor of an image's presented size: 1 for the segment `3`, N for `xN`. Raises `Refused` (404)."""
    number = 1 if segment == "3" else int(segment[1:]) if segment in {f"x{n}" for n in range(1, LARGEST + 1)} else 0
    if not number:
        raise Refused(404, f"expected /iiif/3/ID, or /iiif/xN/ID with N from 1 to {LARGEST}")
    return number


def etag(content: bytes) -> str:
    """The strong entity tag of some content."""
    return f'"{hashlib.sha256(content).hexdigest()[:32]}"'


def matches(request: HttpRequest, tag: str) -> bool:
    """Whether the client already has the version with this entity tag (If-None-Match)."""
    given = [each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")]
    return tag in given or "*" in given


async def asset(request: HttpRequest) -> Response:
    """Respond with one of the page's files. Only names in the table `ASSETS` exist."""
    found = ASSETS.get(request.path_params.get("name", ""))
    if found is None:
        return refusal(Refused(404, "not found"))
    content = (PAGE / found[0]).read_bytes()
    headers = {"etag": etag(content), "cache-control": "no-cache", "content-security-policy": POLICY}
    headers |= {"x-content-type-options": "nosniff", "referrer-policy": "no-referrer"}
    if matches(request, headers["etag"]):
        return Response(status_code=304, headers=headers)
    return Response(content, headers=headers | {"content-type": found[1]})


class HostCheck:
    """Middleware that refuses requests for other hosts with status 400, as a protection against DNS rebinding.

    names: the host names that are allowed. IP addresses are also allowed, because they cannot be rebound; if `local`, only
    loopback addresses.
    """

    def __init__(self, app: ASGIApp, names: frozenset[str], local: bool) -> None:
        self._app, self._names, self._local = app, names, local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
            if len(hosts) != 1 or not self.allows(hosts[0]):
                await refusal(Refused(400, "this host name is not allowed"))(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def allows(self, host: str) -> bool:
        """Whether a Host header is allowed."""
        name, _, port = host.rpartition(":") if not host.endswith("]") and ":" in host else (host, "", "")
        if port and not (port.isascii() and port.isdigit()):
            return False
        if name.lower() in self._names:
            return True
        try:
            address = ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
        except ValueError:
            return False
        return address.is_loopback if self._local else True


def application(service: Service, names: frozenset[str] = frozenset({"localhost"}), local: bool = True) -> ASGIApp:
    """The ASGI application. names, local: see `HostCheck`."""
    methods = ["GET", "HEAD", "OPTIONS"]
    routes = [
        Route("/iiif/{rest:path}", service.iiif, methods=methods),
        Route("/contents.json", service.contents),
        Route("/{name}", asset),
        Route("/", asset, name="page"),
    ]
    return HostCheck(Starlette(routes=routes, exception_handlers={404: _nothing, 405: _nothing}), names, local)


async def _nothing(request: HttpRequest, error: Exception) -> Response:
    status = getattr(error, "status_code", 404)
    return refusal(Refused(status, "not found" if status == 404 else "method not allowed"))
