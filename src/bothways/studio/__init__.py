"""The web page, for looking rather than reading: forms, pictures while they are drawn, walks, runs side by side.

``jobs``, ``requests``, ``uploads``, ``shelf`` and ``fragments`` know nothing of Gradio; ``page``, ``pane`` and ``tabs``
lay it out; ``server`` binds it to this machine alone.
"""
