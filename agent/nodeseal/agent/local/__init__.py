"""The socket on which local loaders ask for keys, and who they are."""
