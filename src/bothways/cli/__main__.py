"""``python -m bothways.cli`` is the command ``bothways``."""

from bothways.cli import main

if __name__ == "__main__":
    main()
