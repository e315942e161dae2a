"""`liif`, and `python -m liif_cli`: the command line, with signals answered before it is loaded."""

from liif_cli.errors import ExitCode
from liif_cli.machine import signals


def main() -> None:
    """Run the command line and exit; a signal that comes while it is loaded ends the process with `ExitCode.INTERRUPTED`."""
    signals.end_with(ExitCode.INTERRUPTED)
    signals.ignore_at_the_end()
    from liif_cli.cli.app import main

    main()


if __name__ == "__main__":
    main()
