"""The files that a form may use: where they may be, and weights that are uploaded."""
