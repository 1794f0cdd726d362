"""Released keys on this node: how they come from the verifier, and how leases end.

Calls the verifier and the TPM. ``leases`` is memory only and never holds a data key; ``epoch`` lets the TPM refuse the
release keys of leases that ended; ``revocation`` runs programs.
"""
