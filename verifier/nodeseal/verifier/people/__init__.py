"""Who calls, and what they may: roles, persons, certificates of callers."""
