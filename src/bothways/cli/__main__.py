"""Run the command ``bothways`` by ``python -m bothways.cli``."""

from bothways.cli import main

if __name__ == "__main__":
    main()
