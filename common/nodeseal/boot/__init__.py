"""What a boot log proves: replay into quoted PCR values, then typed claims over the events that were proved.

Bytes become events in :mod:`nodeseal.uefi`; here events become claims; whether claims suffice is decided by the
verifier's appraisal. ``docs/boot-claims.md`` says what is proved and what is believed.
"""
