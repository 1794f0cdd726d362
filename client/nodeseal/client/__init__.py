"""The verifier as a person's program calls it: connection, one typed method a call, and refusals.

Deadlines, certificates, stubs and gRPC stay in here; the command imports none of them.
"""
