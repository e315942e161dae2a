"""The address of an object in a store, and a place in general: a path here or an address there. Loads no library of a store."""

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path, PurePath, PurePosixPath
from urllib.parse import unquote, urlsplit

SCHEME = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)
WEB = ("http", "https")


@dataclass(frozen=True, repr=False)
class Address:
    """Where an object is, as fsspec writes it, with the verbs of a `Path`.

    protocol: "s3", "https", ... in lower case. path: what follows `://`, bucket and key or host and path, without a slash at
    its end. query: of a web address, with its question mark. Printed, it has neither a password nor a query, which may hold
    a token; `full` has both.
    """

    protocol: str
    path: str
    query: str = ""

    @classmethod
    def parse(cls, text: str) -> "Address":
        """An address as users write it; `is_address` says whether it is one."""
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
        """With password and query, for the store alone."""
        return f"{self.protocol}://{self.path}{self.query}"

    @property
    def web(self) -> bool:
        """Whether it is read by HTTP, which knows no listing, and written to by nobody."""
        return self.protocol in WEB

    @property
    def _inner(self) -> PurePosixPath:
        last = self.path.partition("/")[2].rpartition("/")[2]
        return PurePosixPath(PurePosixPath(unquote(last)).name if self.web else last)

    @property
    def name(self) -> str:
        """The last part, as a file of it would be called; empty for a bucket or a host."""
        return self._inner.name

    @property
    def stem(self) -> str:
        """The name without its suffix; `image` if there is no name."""
        return self._inner.stem or "image"

    @property
    def suffix(self) -> str:
        """Of the name, with its dot."""
        return self._inner.suffix

    @property
    def parent(self) -> "Address":
        """What the object lies in; a bucket or a host is its own."""
        above, slash, _ = self.path.rpartition("/")
        return replace(self, path=above, query="") if slash else self

    def with_name(self, name: str) -> "Address":
        """Another object next to this one."""
        return self.parent / name

    def __truediv__(self, inner: str | PurePath) -> "Address":
        return replace(self, path=(PurePosixPath(self.path) / inner).as_posix(), query="")


Place = Path | Address
"""Where bytes are."""


def is_address(text: str) -> bool:
    """Whether a text is an address, not a path. `file://` counts as a path."""
    return SCHEME.match(text) is not None and not text.lower().startswith("file://")


def place(text: str) -> Place:
    """A path or an address as users write it."""
    return Address.parse(text) if is_address(text) else Path(local(text))


def local(text: str) -> str:
    """A path as users write it: `file://...` names one, too."""
    if not text.lower().startswith("file://"):
        return text
    from urllib.request import url2pathname  # loads what HTTP needs

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
    """`text` without passwords in addresses, queries of web addresses, keys and tokens: what may be printed."""
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text


def is_safe(inside: str) -> bool:
    """Whether a name from a store, relative to where it was looked for, stays below whatever it is put in: on every system."""
    parts = re.split(r"[/\\]", inside)
    drive = os.name == "nt" and ":" in inside
    plain = all(part not in ("", ".", "..") and part.isprintable() for part in parts)
    return plain and "\\" not in inside and not drive
