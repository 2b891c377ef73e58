"""Loaders for models of other libraries, one file per library.

A loader is a function (name, spec or None, whether the user's weights follow) -> ``Loaded``, and a row in
``models/addresses.py``.
"""
