"""What relying parties and people take away about a node: signed tokens (EAR) and whole evidence.

Reads the memory of the fleet and changes nothing in it; an export asks the node for evidence and is recorded in the
ledger. ``ear`` is pure. Holds the key that signs tokens, and no other.
"""
