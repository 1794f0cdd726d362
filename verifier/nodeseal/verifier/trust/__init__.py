"""What people decide to trust: goldens, models, model keys and their grants.

Each decision is an act of the ledger. What widens trust takes effect once it is recorded; what takes trust away holds
at once. The room ``keys`` makes key pairs. No gRPC.
"""
