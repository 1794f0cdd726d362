"""Appraisal: what one round of evidence proves about a node (DESIGN §5).

A pipeline of pure steps, ``decode → authenticate → replay → compare → conclude``; no I/O, no clock, no database and no
logging happen here, so it judges kept evidence without a verifier as well. In the order of the steps:

- :mod:`~nodeseal.verifier.appraisal.model` names what goes in and comes out;
- :mod:`~nodeseal.verifier.appraisal.appraise` runs the pipeline;
- :mod:`~nodeseal.verifier.appraisal.clock` holds the decision table for time and reset;
- :mod:`~nodeseal.verifier.appraisal.boot_log` and :mod:`~nodeseal.verifier.appraisal.runtime` replay logs and hold what
  they prove against each golden;
- :mod:`~nodeseal.verifier.appraisal.compare` holds everything against policy, with
  :mod:`~nodeseal.verifier.appraisal.applicable` for labels and windows and
  :mod:`~nodeseal.verifier.appraisal.platform` for the TPM;
- :mod:`~nodeseal.verifier.appraisal.release` checks release keys.
"""
