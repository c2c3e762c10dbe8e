"""`python -m rewardmodel`."""

import sys

from rewardmodel.cli import main

if __name__ == "__main__":
    sys.exit(main())
