"""All nodes in memory while the verifier runs, and the one way to change a node.

Other rooms read nodes, and change them through ``Fleet.change``, ``restrict`` and ``transact``: one at a time, recorded
in the database and the ledger before anybody is told. No gRPC, no private keys.
"""
