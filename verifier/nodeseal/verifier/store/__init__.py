"""What must outlive the process: schema, migrations, transactions, and one module of queries for each subject.

The only room whose modules know tables. Queries take a connection and return records; they decide nothing, know no node
in memory, no gRPC and no private keys.
"""
