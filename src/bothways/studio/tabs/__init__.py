"""The tabs of the page; ``build_tab`` of each creates its components and handlers."""
