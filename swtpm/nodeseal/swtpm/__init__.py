"""Machines with software TPMs, and a synthetic TPM, for tests, the demo and load tests; no part of a deployment.

Starts processes and listens on local sockets.
"""
