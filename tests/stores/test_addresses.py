"""Addresses, their text without secrets, and safe names from a store."""

from pathlib import Path

import pytest

from liif_cli.stores.addresses import Address, clean, is_address, is_safe, place


def test_an_address_has_the_interface_of_a_path() -> None:
    address = Address.parse("S3://bucket/in/a.b.JPG")
    assert (str(address), address.name, address.stem, address.suffix) == (
        "s3://bucket/in/a.b.JPG",
        "a.b.JPG",
        "a.b",
        ".JPG",
    )
    assert str(address.with_name("c.png")) == "s3://bucket/in/c.png"
    assert str(address.parent.parent / Path("out") / "x.png") == "s3://bucket/out/x.png"
    bucket = Address.parse("s3://bucket/")
    assert (bucket.name, bucket.parent) == ("", bucket)


def test_keys_keep_what_a_web_address_would_lose() -> None:
    assert Address.parse("s3://b/what?.png").name == "what?.png"
    web = Address.parse("https://example.org/a%20b%2F..%2Fc.png?size=1#top")
    assert (web.name, web.stem, web.full) == ("c.png", "c", "https://example.org/a%20b%2F..%2Fc.png?size=1")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://ann:secret@example.org/a.png?token=secret", "https://example.org/a.png"),
        ("https://secret@example.org/a.png", "https://example.org/a.png"),
        ("ftp://ann:secret@example.org/a.png", "ftp://example.org/a.png"),
        ("abfs://container@account.dfs.core.windows.net/a.png", "abfs://container@account.dfs.core.windows.net/a.png"),
    ],
)
def test_no_password_and_no_query_is_printed(text: str, shown: str) -> None:
    address = Address.parse(text)
    assert str(address) == repr(address) == f"{address}" == shown
    assert address.full == text  # the store is told


def test_what_libraries_say_is_cleaned() -> None:
    said = "403, url='https://b.example.org/k?X-Amz-Signature=secret&X-Amz-Credential=secret' key AKIASECRETSECRET1234 "
    said += "Authorization: Bearer secret.secret-secret; https://ann:secret@h/x; Signature=secret"
    assert "secret" not in clean(said).lower()
    assert clean("cannot read s3://b/a?b.png: 404 & more") == "cannot read s3://b/a?b.png: 404 & more"


def test_places() -> None:
    assert place("in.png") == Path("in.png")
    assert place("file:///tmp/a%20b.png") == Path("/tmp/a b.png")
    assert isinstance(place("memory://a/b.png"), Address)
    assert [is_address(each) for each in ("s3://b/k", "C:\\in.png", "C:/in.png", "-", "a:b/c", "file:///x")] == [
        True
    ] + 5 * [False]


@pytest.mark.parametrize(
    ("inside", "safe"),
    [
        ("a/b.jpg", True),
        ("2024-01-01T10:00/ä b.jpg", True),
        ("...x.jpg", True),
        ("../a.jpg", False),
        ("a/../../b.jpg", False),
        ("/etc/a.jpg", False),
        ("a//b.jpg", False),
        ("a\\..\\b.jpg", False),
        ("a\nb.jpg", False),
        ("./a.jpg", False),
        ("", False),
    ],
)
def test_names_from_a_store(inside: str, safe: bool) -> None:
    assert is_safe(inside) == safe
