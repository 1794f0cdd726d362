"""Who a node is: proof of its endorsement and attestation keys, its id, its certificate."""
