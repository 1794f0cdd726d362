"""What a program checks of its own setup, at its start and on request: files, certificates, and who can be reached.

A check is a function that gives faults. The same list of checks runs when a program starts, which refuses what is
fatal, and when a person asks (``check``, ``doctor``), who sees all faults at once. Nothing here changes anything.
"""
