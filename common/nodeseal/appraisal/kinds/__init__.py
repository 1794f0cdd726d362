"""The kinds of evidence: one module each, one row each in :data:`KINDS`.

To add a kind, write a module with the functions of :class:`~nodeseal.appraisal.kinds.kind.Kind` and add its row.
The pipeline and the baselines in memory follow from the table; ``docs/architecture.md`` lists what else a kind needs.
The rest of appraisal imports the module that is named after a kind, never its helpers (``boot_rules``, ``ima_log``).

:mod:`~nodeseal.appraisal.kinds.clock` comes before the table: it decides from the quote alone whether earlier proofs
still count. Every round proves it anew, no golden speaks of it, and the node can leave nothing of it out. It therefore
has only ``prove``. Baselines carry clock and boot id themselves.
"""

from __future__ import annotations

from typing import Any, Final

from nodeseal.appraisal.kinds import boot, egress, ima, platform
from nodeseal.appraisal.kinds.kind import Kind

KINDS: Final[tuple[Kind[Any], ...]] = (platform, boot, ima, egress)
"""The order in which kinds are proved and judged, and in which their findings are shown. IMA needs what boot proved."""
