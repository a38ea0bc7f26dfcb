"""Runs the command line: python -m vkd VERB."""

import sys

from vkd.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
