"""The one room that knows every other: options or TOML -> parts -> loop -> run folder."""
