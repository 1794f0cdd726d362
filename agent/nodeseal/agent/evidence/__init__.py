"""What this node can show: facts of the host, the logs of this boot, and quotes over both.

Reads files of the kernel and asks the TPM through the room ``tpm``. No network: the caller sends the evidence.
"""
