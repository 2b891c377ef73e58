"""The web interface: forms, live pictures of running jobs, walks, and comparison of runs.

``jobs``, ``requests``, ``uploads``, ``shelf`` and ``fragments`` do not depend on Gradio; ``page``, ``pane`` and
``tabs`` are the layout; ``server`` listens on 127.0.0.1 only.
"""
