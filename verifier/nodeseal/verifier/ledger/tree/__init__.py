"""The tree over the log: the sequencer that numbers acts, signed checkpoints, proofs, and a new log after a restore."""
