"""`python -m liif_cli` is `liif`."""

from liif_cli.cli import main

if __name__ == "__main__":
    main()
