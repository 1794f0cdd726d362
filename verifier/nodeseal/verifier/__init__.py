"""The verifier: appraises nodes, releases keys to those that proved themselves, and records what it did.

``main`` is the command, ``wiring`` builds everything, ``setup`` makes a new verifier; each room says what it may touch.
From top to bottom: the services; the rooms that do what people and nodes ask for; the fleet; ledger, keys and store.
Evidence is not judged here but in :mod:`nodeseal.appraisal`, without a network or a database.
"""
