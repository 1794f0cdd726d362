"""Egress limits: what a golden demands of the bytes that leave a machine, and the nftables table that follows from it.

- ``document``: the section ``egress`` of a golden, which is also the file that a node installs.
- ``table``: the table of one document, as nft reads it, and as lines with a digest.
- ``listing``: the same lines from what the kernel lists (``nft -j list table``).
- ``claims``: what a node says of all of it in every round.
- ``uplinks``: which devices must carry the table, from an inventory of all devices.

This room is pure: values and text. ``agent.egress`` installs and reads, ``appraisal`` judges. ``docs/egress.md`` says
what it protects from and what not.
"""
