"""``python -m jaxboard``."""

import sys

from jaxboard._cli import main

sys.exit(main())
