"""Models of other libraries, a file for each: what stands behind ``timm:NAME`` and the like -> module, facts.

An adapter is a function (name, the facts if given, whether weights follow) -> ``Loaded``, and a row in
``models/addresses.py``.
"""
