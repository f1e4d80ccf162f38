"""``python -m hoiclip``, and what ``torchrun -m hoiclip train ...`` starts."""

import sys

from hoiclip.cli import main

sys.exit(main())
