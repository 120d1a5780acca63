# SPDX-License-Identifier: BSD-2-Clause
"""exec, shell and logs: commands on nodes, and nodes' journals."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence

from ganeti_vc.base.errors import CannotRun, UsageError, VclusterError
from ganeti_vc.base.process import BASE_ENVIRONMENT
from ganeti_vc.base.signals import become
from ganeti_vc.machine import config_files, ganeti_files
from ganeti_vc.model import names
from ganeti_vc.model.keys import MAX_NODES
from ganeti_vc.model.names import ClusterId, NodeId
from ganeti_vc.node import view
from ganeti_vc.operations.lookup import find_node

_RANGE = re.compile(r"(?P<head>[^\[\]]*)\[(?P<low>[0-9]{1,9})-(?P<high>[0-9]{1,9})\](?P<tail>[^\[\]]*)")


def expand(pattern: str) -> list[str]:
    """Return the names of ``node[1-3].example``: node1.example, node2.example, node3.example. Other words stay.

    Raises UsageError.
    """
    match = _RANGE.fullmatch(pattern)
    if not match:
        if "[" in pattern or "]" in pattern:
            raise UsageError(f"{pattern!r} is not a range of nodes", "write node[1-5]")
        return [pattern]
    low, high = int(match["low"]), int(match["high"])
    if low > high:
        raise UsageError(f"{pattern!r} is an empty range", f"write {match['head']}[{high}-{low}]{match['tail']}")
    if high > MAX_NODES:
        raise UsageError(f"{pattern!r}: no cluster has more than {MAX_NODES} nodes", "write node[1-5]")
    return [f"{match['head']}{number}{match['tail']}" for number in range(low, high + 1)]


def select(patterns: Sequence[str], cluster: ClusterId) -> list[NodeId]:
    """Return the nodes that patterns name, each once, in this order. `all` and `master` are those of `cluster`.

    Raises VclusterError.
    """
    selected: list[NodeId] = []
    for pattern in patterns:
        if pattern in ("all", "master"):
            nodes = [node.id for node in config_files.load_present(cluster).nodes]
            if pattern == "master":
                master = ganeti_files.master_of(nodes)
                if master is None:
                    raise VclusterError(
                        f"the cluster {cluster.name} has no master: it is not initialised",
                        f"gnt-vcluster up {cluster.name}",
                    )
                nodes = [master]
            selected += nodes
        else:
            selected += [find_node(name, cluster) for name in expand(pattern)]
    return list(dict.fromkeys(selected))


def environment(node: NodeId) -> dict[str, str]:
    """Return the caller's environment with the node's variables, and with a PATH that finds Ganeti."""
    path = os.environ.get("PATH", "")
    wanted = [part for part in BASE_ENVIRONMENT["PATH"].split(":") if part not in path.split(":")]
    return {**os.environ, "PATH": ":".join([*filter(None, [path]), *wanted]), **view.environment(node.name)}


def check_up(*nodes: NodeId) -> None:
    """Raise VclusterError unless all nodes are set up and have power. Nodes without power do not answer, by ssh neither."""
    for node in nodes:
        if not node.registry_link.is_symlink():
            raise VclusterError(
                f"{node.name} is not set up on this machine now", f"gnt-vcluster start {node.cluster.name}"
            )
        if not view.is_on(node.name):
            raise VclusterError(
                f"{node.name} is powered off",
                f"gnt-vcluster start {node.name}; all nodes: gnt-vcluster start {node.cluster.name}",
            )


def replace(node: NodeId, argv: Sequence[str]) -> int:
    """Become a command on a node that is up. Raises CannotRun."""
    view.enter(node.name)
    try:
        become(argv, environment(node))
    except OSError as err:
        raise CannotRun(node.name, argv[0], err) from None


def run_captured(node: NodeId, argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a command on a node that is up, and return its status and output."""
    return subprocess.run(
        [*node.enter, *argv],
        env=environment(node),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
    )


def shell(node: NodeId) -> int:
    """Become a shell on a node, in its directory, with its name in the prompt. Raises VclusterError."""
    check_up(node)
    os.chdir(node.rootdir)
    return replace(node, ["bash", "--rcfile", str(names.LIB_DIR / "shell-rc")])


def journal(node: NodeId, daemon: str | None, arguments: Sequence[str]) -> int:
    """Become journalctl for one node, or one daemon of it."""
    units = [node.service(daemon)] if daemon else node.unit_patterns
    become(["journalctl", *(f"--unit={unit}" for unit in units), *arguments])
