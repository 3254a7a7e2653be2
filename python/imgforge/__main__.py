"""``python -m imgforge``."""

import sys

from imgforge._program import main

if __name__ == "__main__":
    sys.exit(main())
