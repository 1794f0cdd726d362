"""Evidence: what an attester sends, what its quote is bound to and proves, and the folder that keeps it."""
