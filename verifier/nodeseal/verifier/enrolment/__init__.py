"""Who a node is: its endorsement key, its attestation key, its id and its certificate.

``identity``, ``endorsement`` and ``credential`` decide and are pure. ``vendors`` reads the certificates that trust
begins with, ``explanation`` puts them in words. ``enroller`` and ``certificates`` record what happens, through the
ledger only. No gRPC, no private model keys.
"""
