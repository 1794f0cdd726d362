"""All nodes in memory while the verifier runs, and the one way to change a node.

Other rooms read nodes, and change them one at a time. ``Fleet.change`` and ``Fleet.transact`` record the change in
database and ledger before it takes effect. ``Fleet.restrict`` takes trust away at once, and records that as soon as the
database can take it. No gRPC, no private keys.
"""
