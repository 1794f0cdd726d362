"""X.509 certificates of endorsement keys and their authorities: bytes to values. Pure: no signatures, no trust.

``der`` reads elements, ``names``, ``extensions`` and ``certificate`` what they make.
:mod:`nodeseal.crypto.endorsement` verifies chains.
"""
