"""All nodes in memory while the verifier runs: a fold over the acts of the ledger.

Other rooms read nodes here and change them through the ledger. ``fold`` follows what is recorded, ``overlay`` holds
restrictions until they are. No gRPC, no private keys.
"""
