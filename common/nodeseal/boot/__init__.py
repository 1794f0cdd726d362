"""What a boot log proves: it replays into quoted PCR values, and its proved events become typed claims.

- ``proved``: the replay, which says of which PCRs the log may be believed; ``quirks`` (with ``quirks.yaml``): known
  deviations of firmware.
- ``measured``: the events of proved PCRs, and how much of each is proved.
- ``claims``: :class:`~nodeseal.boot.claims.BootClaims`, made from ``secure_boot`` (PCR 7 and 14), ``images`` (PCR 2 and
  4) and ``loader`` (command lines, files, sections, partition tables).
- ``difference``: the events that differ from a golden's reference, in words.

This room is pure. Bytes become events in :mod:`nodeseal.uefi`; :mod:`nodeseal.appraisal` decides whether claims
suffice. ``docs/boot-claims.md`` says what is proved and what is believed.
"""
