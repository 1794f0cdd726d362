"""Appraisal: what one round of evidence proves about a node (DESIGN §5).

A pipeline of pure steps, ``decode → authenticate → compare → conclude``; no I/O, no clock, no database and no
logging happen here. :func:`~nodeseal.verifier.appraisal.appraise.appraise` runs it,
:mod:`~nodeseal.verifier.appraisal.model` names its types, :mod:`~nodeseal.verifier.appraisal.clock` holds the
decision table for time and reset, :mod:`~nodeseal.verifier.appraisal.release` checks release keys.
"""
