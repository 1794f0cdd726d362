"""The socket on which local loaders ask for keys, and who they are.

Talks to processes of this machine only, and asks the kernel who they are. Data keys pass through here and are wiped.
Neither the TPM nor the verifier is called directly: the room ``release`` does that.
"""
