"""What programs say to each other: one codec for findings, states and evidence, one table of refusals, Varlink's rules.

Values in, messages out, and back; no sockets, no decisions. ``statuses`` alone knows gRPC. The loader uses ``findings``
and ``varlink``, which know neither gRPC nor protobuf.
"""
