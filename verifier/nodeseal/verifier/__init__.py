"""The verifier: appraises nodes, releases keys to those that proved themselves, and records what it did.

``main`` is the command, ``wiring`` builds everything, ``setup`` makes a new verifier; each room says what it may touch.
Services stand above, what people and nodes ask for below them, then the fleet, then ledger, keys and store. Evidence is
not judged here but in :mod:`nodeseal.appraisal`, without a network or a database.
"""
