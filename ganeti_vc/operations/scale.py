# SPDX-License-Identifier: BSD-2-Clause
"""scale: more or fewer nodes for a cluster there is."""

from __future__ import annotations

from ganeti_vc.base.errors import VclusterError
from ganeti_vc.base.progress import Progress, counted
from ganeti_vc.machine import config_files, ganeti, ganeti_files
from ganeti_vc.machine.systemd import Systemd, connect
from ganeti_vc.model import config, config_text
from ganeti_vc.model.config import ClusterConfig
from ganeti_vc.model.names import ClusterId
from ganeti_vc.operations import bring_up, declare, seeding
from ganeti_vc.operations.bring_up import Outcome
from ganeti_vc.operations.declare import UpOptions
from ganeti_vc.reconcile import apply, locking
from ganeti_vc.reconcile.steps import Discard


def _with_nodes(cluster: ClusterId, count: int) -> str:
    """The text of the configuration file with another number of nodes; nothing else in it changes."""
    text = cluster.config_file.read_text()
    changed = config_text.replace_key(text, "cluster", "nodes", str(count))
    config.parse(cluster, changed)
    return changed


def scale_plan(cluster: ClusterId, count: int, join: str) -> tuple[ClusterConfig, str, list[str]]:
    """The present configuration, the text of the coming one, and what has to be done."""
    made = config_files.load(cluster)
    text = _with_nodes(cluster, count)
    coming = config.parse(cluster, text)
    present = {node.id.name for node in made.nodes}
    wanted = {node.id.name for node in coming.nodes}
    lines = [f"gnt-node remove {node.id.name}" for node in reversed(made.nodes) if node.id.name not in wanted]
    lines += [f"set nodes = {count} in {cluster.config_file}"] if wanted != present else []
    more = [node.id.name for node in coming.nodes if node.id.name not in present]
    if seeding.wanted(join, more, []):
        lines.append(f"write {counted(len(more), 'node')} into Ganeti's configuration")
    else:
        lines += [f"gnt-node add {name}" for name in more]
    return made, text, lines


def scale(cluster: ClusterId, count: int, wishes: UpOptions, progress: Progress) -> Outcome:
    """More or fewer nodes. Surplus nodes leave from the last one on; they must be empty and not the master."""
    ganeti.check_installed()
    with locking.exclusive(progress.say), connect() as systemd:
        made, text, _ = scale_plan(cluster, count, wishes.join)
        coming = config.parse(cluster, text)
        bring_up.check_machine(coming)
        outcome = Outcome(coming)
        surplus = made.nodes[count:]
        if surplus:
            _leave(made, coming, systemd, progress, outcome)
        if text != cluster.config_file.read_text():
            declare.write_config(cluster, text)
            outcome.changes.append(f"set nodes = {count}")
        bring_up.finish(coming, wishes, systemd, progress, outcome)
        for node in surplus:
            apply.apply_all([Discard(node.id.rootdir)], systemd)
        return outcome


def _leave(made: ClusterConfig, coming: ClusterConfig, systemd: Systemd, progress: Progress, outcome: Outcome) -> None:
    """`gnt-node remove` for the surplus nodes Ganeti knows, after a look at all of them."""
    master = ganeti_files.master_of(node.id for node in made.nodes)
    if master is None:
        return
    surplus = [node.id for node in made.nodes if node not in coming.nodes]
    if master in surplus:
        raise VclusterError(f"{master.name} is the master and cannot be removed",
                            f"first: gnt-vcluster exec {made.nodes[0].id.name} -- gnt-cluster master-failover")  # fmt: skip
    bring_up.bring_up(made, systemd, progress, outcome)
    known = ganeti.node_names(master)
    leaving = [node for node in reversed(surplus) if node.name in known]
    for node in leaving:
        there = ganeti.instances_on(master, node)
        if there:
            raise VclusterError(f"{node.name} has the instance {there[0]}" + (" and others" if there[1:] else ""),
                                f"first move or remove it, for example: gnt-vcluster exec {master.name} -- "
                                f"gnt-node evacuate -f {node.name}")  # fmt: skip
    if leaving:
        with progress.step("gnt-node remove", total=len(leaving)) as advance:
            for node in leaving:
                ganeti.node_remove(master, node)
                outcome.changes.append(f"gnt-node remove {node.name}")
                advance()
