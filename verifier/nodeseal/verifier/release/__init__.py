"""Who may have which data key now.

A grant is checked in ``entitlement``, a node's proof in ``approval``: both are pure. ``lease_start`` is the transaction
that records a lease, ``releases`` the whole exchange, ``rotation`` rewraps slots. The room ``keys`` opens slots, so no
private key comes here; changes of the database are transactions of the fleet. No gRPC.
"""
