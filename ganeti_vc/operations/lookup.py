# SPDX-License-Identifier: BSD-2-Clause
"""Which cluster or node a word of the command line means."""

from __future__ import annotations

from ganeti_vc.base.errors import VclusterError
from ganeti_vc.machine import config_files
from ganeti_vc.model import names
from ganeti_vc.model.names import ClusterId, NodeId
from ganeti_vc.reconcile import pacing


def undeclared() -> list[ClusterId]:
    """Clusters that have data, but no configuration file any more."""
    found = (ClusterId(path.name) for path in sorted(names.STATE_DIR.glob("[!.]*")) if path.is_dir())
    return [cluster for cluster in found if not config_files.exists(cluster)]


def all_nodes() -> list[NodeId]:
    """All nodes of all clusters; of one whose file cannot be read, those systemd has."""
    found = []
    for cluster in config_files.declared():
        try:
            found += [node.id for node in config_files.load_present(cluster).nodes]
        except VclusterError:
            found += pacing.members(cluster)  # `status` and `list` say what is wrong with the file
    return found


def find_node(name: str, cluster: ClusterId | None = None) -> NodeId:
    """The node with this name, or the only one whose name begins with it and a dot; of `cluster` if it has one."""
    nodes = all_nodes()
    exact = [node for node in nodes if node.name == name]
    short = [node for node in nodes if node.name.startswith(f"{name}.")]
    inside = [node for node in exact + short if node.cluster == cluster]
    found = inside[:1] or exact or short
    if not found:
        raise VclusterError(f"there is no node {name}", "gnt-vcluster status shows the nodes")
    if len(found) > 1:
        raise VclusterError(f"{name} could be {' or '.join(node.name for node in found)}", "give the whole name")
    return found[0]


def default_cluster(name: str | None) -> ClusterId:
    """The cluster meant by a command: the one named, or `default`. Never another, even if it is the only one there is."""
    if name is not None and not names.is_cluster_id(name):
        raise VclusterError(f"{name!r} cannot name a cluster", "use small letters, digits and '-', at most 32")
    return ClusterId("default" if name is None else name)
