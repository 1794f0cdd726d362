"""Golden measurements: what a trustworthy machine may have booted and may run. ``docs/goldens.md`` shows every key.

- What a golden is: ``model`` (:class:`~nodeseal.golden.model.Golden` and its digest), ``rules`` (the rules in it).
- From YAML: ``document`` parses the whole; ``boot_section``, ``runtime_section``, ``reference_section`` and
  ``scope_sections`` (platform, nodes, valid) parse their sections, with the getters of ``parts``.
- To YAML and digest: ``canonical`` makes the plain form that both share, ``yaml_text`` writes it.
- Spellings: ``paths`` (bytes of a path as text), ``patterns`` (kernel command lines with ``*``).
- For people who approve one: ``lint`` (what it covers and leaves open), ``difference`` (two goldens compared),
  ``schema`` (JSON Schema for editors).
- For updates: ``predict`` makes the next golden, from ``predicted_events`` and ``predicted_rules``; ``runtime_list``
  merges old and new file digests.

This room is pure: values and text, no files, no clock. Goldens are compared with evidence in
:mod:`nodeseal.appraisal`.
"""
