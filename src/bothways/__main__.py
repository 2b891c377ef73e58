"""``python -m bothways`` is the command ``bothways``."""


def main() -> None:
    """Run the command. A stop while it is imported, which can take seconds, ends without a traceback too."""
    try:
        from bothways.cli import main as command
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    command()


if __name__ == "__main__":
    main()
