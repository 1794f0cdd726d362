"""Linux IMA's measurement list, its templates and file signatures: bytes to values; nothing is proved here."""
