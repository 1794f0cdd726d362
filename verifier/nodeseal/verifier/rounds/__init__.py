"""What a node proves, round after round: challenges, answers, and what follows for its state.

Evidence is judged in :mod:`nodeseal.appraisal`, a quote's clock in :mod:`nodeseal.appraisal.kinds.clock`; ``decision``
says what that means for the node. Changes nodes through the ledger alone; no gRPC and no keys.
"""
