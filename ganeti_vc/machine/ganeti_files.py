# SPDX-License-Identifier: BSD-2-Clause
"""Ganeti's own files on the nodes, read without asking a daemon."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ganeti_vc.base import files
from ganeti_vc.model.daemons import DAEMONS, Runs
from ganeti_vc.model.names import ClusterId, NodeId


@dataclass(frozen=True)
class Initialised:
    """What Ganeti has recorded of a cluster, and does not change any more."""

    nodes: Mapping[str, str]  #: primary address by node name
    ssh_port: int | None
    device: str | None = None  #: of the cluster's address (gnt-cluster --master-netdev)


def ssconf(node: NodeId, name: str) -> str | None:
    """Return a value of Ganeti's static configuration on this node (ssconf.SimpleStore); None when there is none."""
    try:
        return (node.data_dir / f"ssconf_{name}").read_text().rstrip("\n")
    except FileNotFoundError:
        return None


def master_of(nodes: Iterable[NodeId]) -> NodeId | None:
    """Return the node that is the master by its own files; None when no cluster is initialised.

    A node that was off during a failover still takes itself for the master. So the youngest file counts.
    """
    claims = [node for node in nodes
              if (node.data_dir / "config.data").exists() and ssconf(node, "master_node") == node.name]  # fmt: skip
    return max(claims, key=lambda node: (node.data_dir / "ssconf_master_node").stat().st_mtime, default=None)


def initialised(cluster: ClusterId) -> Initialised | None:
    """Return what the master has recorded, whatever names the configuration file gives its nodes; None without a master."""
    directories = cluster.directory.glob("[!.]*/var/lib/ganeti/config.data")
    master = master_of(cluster.node(path.relative_to(cluster.directory).parts[0]) for path in directories)
    if master is None:
        return None
    nodes = dict(line.split() for line in (ssconf(master, "node_primary_ips") or "").splitlines())
    try:
        recorded = json.loads((master.data_dir / "config.data").read_text())
    except json.JSONDecodeError:
        return Initialised(nodes, None)  # cut short by a full disk: Ganeti will say so
    cluster_data = recorded["cluster"]
    return Initialised(nodes, cluster_data["ndparams"].get("ssh_port"), cluster_data["master_netdev"])


def expected_units(node: NodeId, master: NodeId | None) -> list[str]:
    """Return the units of the daemons that ought to run on this node, by the files that Ganeti has put there."""
    if not (node.data_dir / "server.pem").exists():
        return []
    is_candidate = (node.data_dir / "config.data").exists()
    here = {
        Runs.EVERYWHERE: True,
        Runs.AS_CONFIGURED: is_candidate or node.mond_link.is_symlink(),
        Runs.CANDIDATES: is_candidate,
        Runs.MASTER: is_candidate and node == master,
        Runs.ON_DEMAND: False,
    }
    return [node.service(daemon.name) for daemon in DAEMONS if here[daemon.runs]]


_UNFINISHED = {"queued", "waiting", "canceling", "running"}


def is_finished(job: str) -> bool:
    """Tell whether a job has ended, by the text of its file in the queue (jqueue._QueuedJob.CalcStatus)."""
    return not _UNFINISHED & {op["status"] for op in json.loads(job)["ops"]}


def unfinished_job(master: NodeId, finished: set[str]) -> str | None:
    """Return the number of a job that runs or waits, by the master's files; None when there is none.

    `finished` has the names of files that need not be read; those of jobs that have ended are added.
    """
    for path in sorted((master.data_dir / "queue").glob("job-*")):
        if path.name in finished:
            continue
        text = files.read(path)  # None: it was archived meanwhile
        if text is not None and not is_finished(text):
            return path.name.removeprefix("job-")
        finished.add(path.name)
    return None
