"""``python -m texledger check FILE...``."""

import sys

from texledger._check import main

sys.exit(main())
