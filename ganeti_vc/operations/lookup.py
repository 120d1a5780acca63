# SPDX-License-Identifier: BSD-2-Clause
"""Which cluster or node a word of the command line means."""

from __future__ import annotations

from ganeti_vc.base.errors import VclusterError
from ganeti_vc.machine import config_files
from ganeti_vc.model import names
from ganeti_vc.model.names import ClusterId, NodeId
from ganeti_vc.reconcile import pacing


def undeclared() -> list[ClusterId]:
    """Return the clusters that have data, but no configuration file any more."""
    clusters = (ClusterId(path.name) for path in sorted(names.STATE_DIR.glob("[!.]*")) if path.is_dir())
    return [cluster for cluster in clusters if not config_files.exists(cluster)]


def all_nodes() -> list[NodeId]:
    """Return all nodes of all clusters; of a cluster whose file cannot be read, those that systemd knows."""
    nodes: list[NodeId] = []
    for cluster in config_files.declared():
        try:
            nodes += [node.id for node in config_files.load_present(cluster).nodes]
        except VclusterError:
            nodes += pacing.members(cluster)  # `status` and `list` say what is wrong with the file
    return nodes


def find_node(name: str, cluster: ClusterId | None = None) -> NodeId:
    """Return the node of this name, or the only one whose name begins with it and a dot; preferably one of `cluster`.

    Raises VclusterError.
    """
    nodes = all_nodes()
    exact = [node for node in nodes if node.name == name]
    short = [node for node in nodes if node.name.startswith(f"{name}.")]
    inside = [node for node in exact + short if node.cluster == cluster]
    matching = inside[:1] or exact or short
    if not matching:
        raise VclusterError(f"there is no node {name}", "gnt-vcluster status shows the nodes")
    if len(matching) > 1:
        raise VclusterError(f"{name} could be {' or '.join(node.name for node in matching)}", "give the whole name")
    return matching[0]


def default_cluster(name: str | None) -> ClusterId:
    """Return the cluster that a command means: the one named, or `default`; no other, even if it is the only one.

    Raises VclusterError.
    """
    return ClusterId.parse("default" if name is None else name)
