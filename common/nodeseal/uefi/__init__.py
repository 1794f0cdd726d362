"""Boot logs and their events (TCG PC Client Platform Firmware Profile, UEFI): bytes to values. Pure: nothing is proved.

- ``event_log`` with ``event_log_reader`` and ``event_log_types``: the log, and its replay.
- ``event_log_binding``: which part of an event's data its digest proves.
- ``event_data``: what the data says, by the decoders of this room (variables, images, partitions, …).
- ``event_log_text``, ``signature_text``, ``event_log_diff``: text for people, and where two logs differ.
- ``pe``: what firmware and systemd-stub measure of a boot image.

:mod:`nodeseal.boot` proves logs and says what they prove.
"""
