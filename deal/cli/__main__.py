"""`python -m deal.cli`, where the command `deal` is not installed."""

import sys

from deal.cli import main

sys.exit(main())
