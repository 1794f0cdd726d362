"""What happened: records, appended in the transaction that makes them true."""
