"""The node's TPM: the only room that may talk to one (``tpm2_pytss``).

``owner`` runs every operation on one thread, ``device`` is what the agent can ask for, ``connection`` holds handles and
sessions, ``failures`` sorts response codes. No network and no files.
"""
