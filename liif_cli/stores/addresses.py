"""Addresses of objects in stores, and places: paths or addresses. Does not load any store's library."""

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path, PurePath, PurePosixPath
from urllib.parse import unquote, urlsplit

SCHEME = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)
WEB = ("http", "https")


@dataclass(frozen=True, repr=False)
class Address:
    """The address of an object, as written for fsspec, with the interface of a `Path`.

    protocol: "s3", "https", ..., in lower case. path: the part after `://` (bucket and key, or host and path), without a
    trailing slash. query: of a web address, with its question mark. As text it has neither password nor query, which may
    contain a token; `full` has both.
    """

    protocol: str
    path: str
    query: str = ""

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Parse an address. text: one for which `is_address` is true."""
        protocol, _, rest = text.partition("://")
        protocol, query = protocol.lower(), ""
        if protocol in WEB:
            parts = urlsplit(text)
            rest, query = f"{parts.netloc}{parts.path}", f"?{parts.query}" if parts.query else ""
        return cls(protocol, rest.rstrip("/"), query)

    def __str__(self) -> str:
        return clean(f"{self.protocol}://{self.path}")

    __repr__ = __str__

    @property
    def full(self) -> str:
        """The address with its password and query, for the store only."""
        return f"{self.protocol}://{self.path}{self.query}"

    @property
    def web(self) -> bool:
        """Whether it is a web address, which can neither be listed nor written to."""
        return self.protocol in WEB

    @property
    def _inner(self) -> PurePosixPath:
        last = self.path.partition("/")[2].rpartition("/")[2]
        return PurePosixPath(PurePosixPath(unquote(last)).name if self.web else last)

    @property
    def name(self) -> str:
        """The last part of the path, as a file name; empty for a bucket or a host."""
        return self._inner.name

    @property
    def stem(self) -> str:
        """The name without its suffix; "image" if there is no name."""
        return self._inner.stem or "image"

    @property
    def suffix(self) -> str:
        """The suffix of the name, with its dot."""
        return self._inner.suffix

    @property
    def parent(self) -> "Address":
        """The folder of the object. The parent of a bucket or a host is itself."""
        above, slash, _ = self.path.rpartition("/")
        return replace(self, path=above, query="") if slash else self

    def with_name(self, name: str) -> "Address":
        """The address of an object with another name in the same folder."""
        return self.parent / name

    def __truediv__(self, inner: str | PurePath) -> "Address":
        return replace(self, path=(PurePosixPath(self.path) / inner).as_posix(), query="")


Place = Path | Address
"""A file's path, or an object's address."""


def is_address(text: str) -> bool:
    """Whether the text is an address rather than a path. `file://` counts as a path."""
    return SCHEME.match(text) is not None and not text.lower().startswith("file://")


def place(text: str) -> Place:
    """Parse a path or an address."""
    return Address.parse(text) if is_address(text) else Path(local(text))


def local(text: str) -> str:
    """A path, from a path or from `file://...`."""
    if not text.lower().startswith("file://"):
        return text
    from urllib.request import url2pathname  # slow to import, because it imports the HTTP client

    return url2pathname(text[len("file://") :])


_SECRETS = (
    (re.compile(r"(?<=://)[^/@\s:]*:[^/@\s]*@"), ""),
    (re.compile(r"(?<=http://)[^/@\s]*@|(?<=https://)[^/@\s]*@"), ""),
    (re.compile(r"(https?://[^\s'\"?<>]*)\?[^\s'\"<>)]*"), r"\1"),
    (re.compile(r"\b(AKIA|ASIA)[0-9A-Z]{16}\b"), "***"),
    (re.compile(r"(?i)\b(bearer|basic) [\w.~+/=-]{8,}"), r"\1 ***"),
    (
        re.compile(
            r"(?i)\b((?:x-amz-|x-goog-)?(?:signature|security-token|credential)|sig|sv|access_token)=[^&\s'\"]+"
        ),
        r"\1=***",
    ),
)


def clean(text: str) -> str:
    """The text without secrets (passwords, queries of web addresses, keys and tokens), so that it can be printed."""
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text


def is_safe(inside: str) -> bool:
    """Whether a relative name from a store is a safe path: on every system, it stays inside the folder that it is joined to."""
    parts = re.split(r"[/\\]", inside)
    drive = os.name == "nt" and ":" in inside
    plain = all(part not in ("", ".", "..") and part.isprintable() for part in parts)
    return plain and "\\" not in inside and not drive
