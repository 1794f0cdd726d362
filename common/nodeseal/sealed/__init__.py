"""The sealed model's documents and content format (docs/sealed-format.md); no I/O, no keys at rest."""
