"""``nodeseal demo``: a verifier and three nodes with software TPMs on one machine, and what happens to them.

Starts processes and works in one folder of its own.
"""
