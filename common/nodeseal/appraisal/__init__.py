"""Appraisal: what one round of evidence proves about a node, and how that compares with goldens (DESIGN §5).

Everything here is pure: no I/O, no clock, no randomness, no database, no log. So the command appraises kept evidence
with the same code as the verifier.

The pipeline, in :mod:`~nodeseal.appraisal.appraise`:

1. authenticate: the node's TPM signed this evidence for this challenge;
2. clock: the round continues the last one, follows a reboot, or breaks the TPM's time;
3. PCR values: the quote's digest covers them (:mod:`~nodeseal.appraisal.pcr_values`);
4. each kind of evidence in the table :data:`nodeseal.appraisal.kinds.KINDS`: prove, then judge by every golden
   (:mod:`~nodeseal.appraisal.compare`), then keep;
5. conclude: findings, goldens that match, and the baseline for the next round.

Beside it: :mod:`~nodeseal.appraisal.model` (what goes in and comes out), :mod:`~nodeseal.appraisal.applicable` (which
goldens count), :mod:`~nodeseal.appraisal.release` (checks of release keys), :mod:`~nodeseal.appraisal.offline`,
:mod:`~nodeseal.appraisal.explanation` and :mod:`~nodeseal.appraisal.capture` (kept evidence: verdicts, explanations,
goldens).
"""
