"""What must outlive the verifier's process: schema, transactions, and one module of queries per subject."""
