"""Who may have which data key now: entitlement, releases, leases, rotation of slots."""
