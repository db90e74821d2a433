"""Runs the `plcsim` command as `python -m plcsim`."""

from plcsim.cli import main

if __name__ == "__main__":
    main()
