"""Evidence: what a node sends in one round, what its quote is bound to and proves, and the folder that keeps a round.

- ``round``: :class:`~nodeseal.evidence.round.Evidence`, one round as it arrived.
- ``binding``: purpose, channel, and the qualifying data that ties a quote to both.
- ``claims``: what the agent says of itself.
- ``logs``: the boot log and the IMA log on their way, with their limits, and what the verifier already knows of them.
- ``quote``: the proof of a quote and of the PCR values behind it; ``quote_files`` does the same offline, with files.
- ``release_context``: what a released data key is bound to.
- ``folder``: one whole round as files, for people and for appraisal without a verifier.

This room parses and proves, and does no I/O. It compares nothing with a golden: that is
:mod:`nodeseal.appraisal`. A new kind of evidence adds a module here and a field to ``Evidence``.
"""
