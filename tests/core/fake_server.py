"""`python -m tests.core.fake_server fake ...`: as `python -m tools`, with the fake integration in the registry."""

import sys

from tests.core import fake

fake.install()

if __name__ == "__main__":
    from tools.__main__ import main

    sys.exit(main())
