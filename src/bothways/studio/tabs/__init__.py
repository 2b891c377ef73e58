"""The tabs of the page, each laid out and wired by its ``build_tab``."""
