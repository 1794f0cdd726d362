"""gRPC at the edge: protobuf in, values inside, protobuf out."""
