# SPDX-License-Identifier: BSD-2-Clause
"""Keeping packets from outside away from a cluster, by a table of nft(8) of its own.

Linux answers on every device for each address that it has on any of them (ip-sysctl(7) calls it the weak host model). So
without this, neighbours of the machine reach the nodes by a route. A table for each cluster leaves others' tables alone,
and can be removed exactly.
"""

from __future__ import annotations

from collections.abc import Sequence

from ganeti_vc.base.process import run
from ganeti_vc.model.addresses import Network
from ganeti_vc.model.names import FILTER_PREFIX, ClusterId

#: Before the kernel changes addresses (priority dstnat): a port that the machine forwards on purpose still gets through.
_CHAIN = "type filter hook prerouting priority raw; policy accept;"


def tables() -> frozenset[str] | None:
    """Return the names of our tables; None where nft or the kernel's part of it is missing."""
    try:
        listed = run(["nft", "list", "tables", "inet"], check=False)
    except FileNotFoundError:
        return None
    if listed.returncode:
        return None
    words = (line.split()[-1] for line in listed.stdout.splitlines() if line)
    return frozenset(word for word in words if word.startswith(FILTER_PREFIX))


def script(cluster: ClusterId, device: str, networks: Sequence[Network]) -> str:
    """Return the text for nft: the whole table, in the place of one that is there, in one transaction."""
    table = f"table inet {cluster.filter_table}"
    family = {4: "ip", 6: "ip6"}
    drops = [f"{family[net.version]} daddr {net} drop" for net in networks]
    lines = [f"add {table}", f"delete {table}", f"{table} {{", "chain outside {", _CHAIN,
             f'iifname {{ "lo", "{device}" }} accept', *drops, "}", "}"]  # fmt: skip
    return "\n".join(lines)


def drop(cluster: ClusterId, device: str, networks: Sequence[Network]) -> None:
    """Drop packets to these networks that come in by another device. Raises StepFailed."""
    run(["nft", script(cluster, device, networks)])


def forget(cluster: ClusterId) -> None:
    """Remove the cluster's table, if it is there. Raises StepFailed."""
    table = f"table inet {cluster.filter_table}"
    run(["nft", f"add {table}; delete {table}"])
