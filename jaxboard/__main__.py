"""The entry point of ``python -m jaxboard``."""

import sys

from jaxboard._cli.main import main

if __name__ == "__main__":
    sys.exit(main())
