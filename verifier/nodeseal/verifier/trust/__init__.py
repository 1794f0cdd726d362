"""What people decide to trust: goldens, models, model keys and their grants.

Each decision is a transaction of the fleet with its audit record, and then takes effect on the nodes in memory. The
room ``keys`` makes key pairs. No gRPC.
"""
