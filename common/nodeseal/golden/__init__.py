"""Golden measurements: what a trustworthy machine may have booted and may run (DESIGN §6).

:mod:`~nodeseal.golden.model` holds the values, :mod:`~nodeseal.golden.rules` the rules in them, and
:mod:`~nodeseal.golden.document` reads and writes the YAML that people see, section by section.
:mod:`~nodeseal.golden.canonical` is the plain form behind both YAML and digest.
"""
