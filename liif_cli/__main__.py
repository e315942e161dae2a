"""The entry point of `liif` and `python -m liif_cli`: handles signals before it loads the command line."""

from liif_cli.errors import ExitCode
from liif_cli.machine import signals


def main() -> None:
    """Run the command line and exit. A signal during loading ends the process with `ExitCode.INTERRUPTED`."""
    signals.end_with(ExitCode.INTERRUPTED)
    signals.ignore_at_the_end()
    from liif_cli.cli.app import main

    main()


if __name__ == "__main__":
    main()
