"""The tree over the log: sequencer, signed checkpoints, proofs, a new log after a restore; rows against their acts."""
