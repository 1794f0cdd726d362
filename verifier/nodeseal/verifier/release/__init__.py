"""Who may have which data key now.

A grant is checked in ``entitlement``, a node's proof in ``approval``: both are pure. ``lease_start`` is the decision
that starts a lease, ``releases`` the whole exchange, ``rotation`` rewraps slots. The room ``keys`` opens slots, so no
private key comes here; every change is an act of the ledger. No gRPC.
"""
