"""A service of models over HTTP: classes and features of pictures in joined batches, and drawings in a queue.

``batching`` and ``models`` know no HTTP; ``gate`` decides who may send what; ``app`` has the
routes; ``server`` listens.
"""
