# SPDX-License-Identifier: BSD-2-Clause
"""Ganeti's own files on the nodes, read without asking a daemon."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ganeti_vc.model.daemons import DAEMONS, Runs
from ganeti_vc.model.names import ClusterId, NodeId
from ganeti_vc.node import mastership, untrusted


@dataclass(frozen=True)
class Initialised:
    """What Ganeti has recorded of a cluster, and does not change any more."""

    nodes: Mapping[str, str]  #: primary address by node name
    ssh_port: int | None
    device: str | None = None  #: of the cluster's address (gnt-cluster --master-netdev)


def ssconf(node: NodeId, name: str) -> str | None:
    """Return a value of Ganeti's static configuration on this node (ssconf.SimpleStore); None when there is none."""
    text = untrusted.read(node.data_dir / f"ssconf_{name}")
    return None if text is None else text.rstrip("\n")


def master_of(nodes: Iterable[NodeId]) -> NodeId | None:
    """Return the master among the nodes of a cluster, as Ganeti's files say; None when it is not initialised."""
    by_directory = {str(node.rootdir): node for node in nodes}
    master = mastership.of_cluster(by_directory)
    return by_directory[master] if master else None


def initialised(cluster: ClusterId) -> Initialised | None:
    """Return what the master has recorded, whatever names the configuration file gives its nodes; None without a master."""
    directories = cluster.directory.glob("[!.]*/var/lib/ganeti/config.data")
    master = master_of(cluster.node(path.relative_to(cluster.directory).parts[0]) for path in directories)
    if master is None:
        return None
    pairs = (line.split() for line in (ssconf(master, "node_primary_ips") or "").splitlines())
    nodes = {pair[0]: pair[1] for pair in pairs if len(pair) == 2}
    try:
        recorded = json.loads(untrusted.read(master.data_dir / "config.data") or "")["cluster"]
        return Initialised(nodes, recorded["ndparams"].get("ssh_port"), recorded["master_netdev"])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return Initialised(nodes, None)  # damaged, for example by a full disk: Ganeti will say so


def config_version(node: NodeId) -> str | None:
    """Return the major and minor version of Ganeti whose format the configuration on this node has; None without one."""
    text = untrusted.read(node.data_dir / "config.data") or ""
    match = re.search(r'"version": ?([0-9]+)([0-9]{2})[0-9]{4}\b', text)  # constants.BuildVersion
    return f"{int(match[1])}.{int(match[2])}" if match else None


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
    """Tell whether a job has ended, by the text of its file in the queue (jqueue._QueuedJob.CalcStatus).

    A file that cannot be read is one that Ganeti cannot run either.
    """
    try:
        return not _UNFINISHED & {op["status"] for op in json.loads(job)["ops"]}
    except (ValueError, KeyError, TypeError):
        return True


def unfinished_job(master: NodeId, finished: set[str]) -> str | None:
    """Return the number of a job that runs or waits, by the master's files; None when there is none.

    `finished` has the names of files that need not be read; those of jobs that have ended are added.
    """
    for path in sorted((master.data_dir / "queue").glob("job-*")):
        # A power cut leaves files that Ganeti had not renamed yet: job-NUMBERxxxx.new.
        if path.name in finished or not path.name.removeprefix("job-").isdecimal():
            continue
        text = untrusted.read(path)  # None: it was archived meanwhile
        if text is not None and not is_finished(text):
            return path.name.removeprefix("job-")
        finished.add(path.name)
    return None
