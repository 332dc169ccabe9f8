"""`python -m crew`: the command line."""

import sys

from crew.cli import main

if __name__ == "__main__":
    sys.exit(main())
