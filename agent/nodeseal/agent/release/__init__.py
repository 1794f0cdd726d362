"""Released keys on this node: how they come, and how leases end."""
