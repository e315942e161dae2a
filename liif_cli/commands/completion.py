"""What the shell offers behind an option."""

from collections.abc import Callable


def models(incomplete: str) -> list[str]:
    """Names of the shipped models, and references to those in the Hub's cache."""
    from liif_cli.catalogue import names

    return [name for name in names() if name.startswith(incomplete)]


def words(*choices: str) -> Callable[[str], list[str]]:
    """The completion of an option that takes one of some words."""
    return lambda incomplete: [word for word in choices if word.startswith(incomplete)]
