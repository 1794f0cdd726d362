"""What happened: audit records, appended in the transaction that makes them true.

It writes to the database with the connection that the caller's transaction gives it, and reads pages of records back.
Nothing here changes or deletes a record.
"""
