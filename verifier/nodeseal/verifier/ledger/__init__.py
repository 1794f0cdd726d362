"""What happened and what changes: acts, the one way to record them, and the log that they make.

``Ledger.commit`` runs a decision in a transaction and records its acts; projectors write their rows.
``Ledger.restrict`` takes trust away at once, and keeps it in the journal until it is recorded. Nothing else writes rows
that decisions rest on. No gRPC, no node in memory.
"""
