"""Who calls, and what they may do.

``roles`` is the one table of methods and roles; ``callers`` turns a TLS certificate into a caller; ``persons`` adds and
removes people. Reads the fleet and the database, writes only people. No gRPC: the services ask here.
"""
