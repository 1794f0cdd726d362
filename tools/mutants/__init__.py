"""Mutation test of what decides: ``make mutants``.

cosmic-ray makes the mutants (``specs.py``, in an environment of its own). They run in children of processes that have
loaded everything: inside functions in ``loop.py``, and what runs at import in ``__main__.py``, where only libraries are
loaded. Nothing is written to the tree. Mutants inside annotations, and those that compile to the same code, are left
out: no test can tell them from the original.

Results go to ``.mutants/results.jsonl``, a line each. A run that was interrupted goes on where it stopped; a module
whose text has changed runs anew. ``docs/mutants.md`` says how, and explains those that survive.
"""
