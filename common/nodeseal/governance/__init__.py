"""How people decide together: rules, proposals, approvals, and the one function that counts them.

Documents are canonical and pure values; nothing here reads a file, a clock or a database. The verifier decides by this
room, and so does everybody who checks its log without it.
"""
