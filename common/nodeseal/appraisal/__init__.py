"""Appraisal: what one round of evidence proves about a node (DESIGN §5).

A pipeline of pure steps, ``decode → authenticate → replay → compare → conclude``; no I/O, no clock, no database and no
logging happen here, so it judges kept evidence without a verifier as well. In the order of the steps:

- :mod:`~nodeseal.appraisal.model` names what goes in and comes out;
- :mod:`~nodeseal.appraisal.appraise` runs the pipeline;
- :mod:`~nodeseal.appraisal.clock` holds the decision table for time and reset;
- :mod:`~nodeseal.appraisal.boot_log` and :mod:`~nodeseal.appraisal.runtime` replay logs and hold what
  they prove against each golden;
- :mod:`~nodeseal.appraisal.compare` holds everything against policy, with
  :mod:`~nodeseal.appraisal.applicable` for labels and windows and
  :mod:`~nodeseal.appraisal.platform` for the TPM;
- :mod:`~nodeseal.appraisal.release` checks release keys.
"""
