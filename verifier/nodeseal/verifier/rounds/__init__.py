"""What a node proves, round after round: challenges, answers, and what follows for its state.

Evidence is judged in :mod:`nodeseal.appraisal`, a quote's clock in :mod:`nodeseal.appraisal.kinds.clock`; ``decision``
says what that means for the node. Changes nodes through the fleet, so no database here; no gRPC and no keys either.
"""
