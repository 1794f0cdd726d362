"""Egress limits on this node: installs the table of a document, and says in every round what the kernel has.

- ``limits``: what the agent does with all of this: install, claim, notice changes.
- ``nft``: runs the program nft. ``netlink`` asks the kernel; ``routing`` and ``tables`` read its answers.
- ``bpf``: asks the kernel for programs that netlink does not list.
- ``plan``: what would be installed, and which connections it would affect.

Only this room changes nftables, and only the table ``netdev nodeseal``.
"""
