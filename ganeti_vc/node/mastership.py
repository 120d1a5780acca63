# SPDX-License-Identifier: BSD-2-Clause
"""Which node is the master, by Ganeti's own files.

A node that was off during a failover still takes itself for the master. Of several such nodes, the one with the newest
configuration is right: Ganeti raises its serial number with every change, and a failover is one. If the numbers are
equal, most nodes decide, as in Ganeti's vote (bootstrap.GatherMasterVotes). The time of a file decides nothing: clocks
go back, and copies are young.

Imported at each start of a master's daemon that another node disputes: the standard library only.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable

from ganeti_vc.base.constants import REGISTRY_DIR
from ganeti_vc.node.untrusted import read


def of_cluster(rootdirs: Iterable[str]) -> str | None:
    """Return the node directory of the master; None when no node takes itself for it. Raises OSError."""
    claims, votes = [], Counter[str]()
    for rootdir in rootdirs:
        named = (read(f"{rootdir}/var/lib/ganeti/ssconf_master_node") or "").strip()
        votes[named] += 1
        if named == os.path.basename(rootdir) and os.path.exists(f"{rootdir}/var/lib/ganeti/config.data"):
            claims.append(rootdir)
    if len(claims) < 2:
        return claims[0] if claims else None
    return max(claims, key=lambda rootdir: (_serial(rootdir), votes[os.path.basename(rootdir)]))


def _serial(rootdir: str) -> int:
    """Return the serial number of a node's configuration, -1 of one that is damaged."""
    try:
        serial = json.loads(read(f"{rootdir}/var/lib/ganeti/config.data") or "")["serial_no"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return -1
    return serial if isinstance(serial, int) else -1


def main(node: str) -> int:
    """Entry point of tools/units/is-disputed-master. Return 0 when the node is the master of its cluster, else 1."""
    rootdir = os.readlink(f"{REGISTRY_DIR}/{node}")
    cluster = os.path.dirname(rootdir)
    with os.scandir(cluster) as entries:
        nodes = [
            entry.path for entry in entries if not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False)
        ]
    return 0 if of_cluster(nodes) == rootdir else 1
