# SPDX-License-Identifier: BSD-2-Clause
"""Giving running nodes the programs that a package has replaced (debian/ganeti-vcluster.triggers).

The kernel takes away what is mounted on a file that is replaced, in the nodes' views as well.
"""

from __future__ import annotations

import os
import sys

from ganeti_vc.base.constants import REGISTRY_DIR
from ganeti_vc.node import view


def _renew(node: str) -> int:
    """Renew one view, in a process of its own. Returns its exit status."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    try:
        view.renew(node)
    except OSError as err:
        remedy = f"gnt-vcluster restart {node}"
        print(f"ganeti-vcluster: {node} goes on with old programs: {err} ({remedy})", file=sys.stderr)
        os._exit(1)
    os._exit(0)


def main() -> int:
    """Entry point of tools/nodes/renew-views. Returns 1 when a node could not be renewed."""
    nodes = os.listdir(REGISTRY_DIR) if os.path.isdir(REGISTRY_DIR) else []
    return max(map(_renew, nodes), default=0)
