"""What programs say to each other: one codec for findings and slots, one table of refusals, Varlink's rules."""
