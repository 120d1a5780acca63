# SPDX-License-Identifier: BSD-2-Clause
"""Which node is the master, by Ganeti's own files.

A node that was off during a failover still takes itself for the master. Of several such nodes, the one with the newest
configuration is right: Ganeti raises its serial number with every change, and a failover is one. If the numbers are
equal, most nodes decide, as in Ganeti's vote (bootstrap.GatherMasterVotes). The time of a file decides nothing: clocks
go back, and copies are young.

Ganeti's users write these files, and root reads them: only regular files of a sensible size are read, and no links.
Imported at each start of a master's daemon that another node disputes: the standard library only.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections import Counter
from collections.abc import Iterable

from ganeti_vc.base.constants import REGISTRY_DIR

#: Bytes. The configuration of 1000 nodes and 5000 instances takes 15 MiB.
MAX_SIZE = 256 << 20


def read(path: str | os.PathLike[str]) -> str | None:
    """Return the text of a file that Ganeti's users may write; None when there is no such regular file."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as err:
        if err.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO):
            return None
        raise
    with open(fd, encoding="utf-8", errors="surrogateescape") as stream:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_SIZE:
            return None
        return stream.read()


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
