"""The verifier: appraises nodes, releases keys to those that proved themselves, and records what it did."""
