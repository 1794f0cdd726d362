"""The sealed model's formats (``docs/sealed-format.md``): documents and containers, from values to bytes and back.

- ``content``: ``nodeseal.model.json``, the list of files, whose SHA-256 is the model digest.
- ``slots``: ``nodeseal.slots.json``, the data key wrapped for each model key; ``model_key``: the public key file.
- ``container``: the layout of a ``*.sealed`` file; ``paths``: the rules for paths in a model.

No file is read, and no key is kept. :mod:`nodeseal.loader` reads, opens and seals models.
"""
