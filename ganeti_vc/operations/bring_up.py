# SPDX-License-Identifier: BSD-2-Clause
"""up: from a configuration to an initialised, verified, running cluster.

Every function here may be interrupted at any point and called again: it looks at what is there and
does what is missing.
"""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass, field

from ganeti_vc.base import locks
from ganeti_vc.base.errors import StepFailed, VclusterError
from ganeti_vc.base.progress import Progress, counted
from ganeti_vc.machine import config_files, ganeti, ganeti_files, network, node_volumes, seed
from ganeti_vc.machine.systemd import Systemd, connect
from ganeti_vc.model import names
from ganeti_vc.model.capacity import SPACE, SPACE_PER_NODE
from ganeti_vc.model.config import ClusterConfig, NodeConfig
from ganeti_vc.model.names import ClusterId, NodeId
from ganeti_vc.operations import declare, seeding
from ganeti_vc.operations.declare import NO_OPTIONS, UpOptions
from ganeti_vc.reconcile import locking, manager_client, observe, pacing, plan
from ganeti_vc.reconcile.steps import Step

log = logging.getLogger(__name__)

#: Nodes. `gnt-cluster verify` has every candidate log in to every node.
VERIFY_UP_TO = 40


@dataclass
class Outcome:
    """What `up` and `scale` report."""

    cluster: ClusterConfig
    changes: list[str] = field(default_factory=list)
    master: NodeId | None = None
    verify_errors: tuple[str, ...] = ()

    @property
    def fresh(self) -> bool:
        """Whether the cluster was initialised just now."""
        return "gnt-cluster init" in self.changes

    def document(self) -> dict[str, object]:
        return {
            "cluster": self.cluster.id.name,
            "nodes": [node.id.name for node in self.cluster.nodes],
            "master": self.master.name if self.master else None,
            "changed": bool(self.changes),
            "changes": self.changes,
            "verify_errors": list(self.verify_errors),
        }


def check_machine(made: ClusterConfig, wishes: UpOptions = NO_OPTIONS) -> None:
    """Refuse a disk that is full: Ganeti's jobs do not fail there, they hang. And a kernel that lacks what is asked for."""
    if any(node.volume_group for node in made.nodes):
        node_volumes.check_kernel()
    needed = SPACE + SPACE_PER_NODE * len(made.nodes)
    free = shutil.disk_usage(names.STATE_DIR).free
    if free < needed and ganeti_steps(made, wishes):
        raise VclusterError(f"{names.STATE_DIR}: {free >> 20} MiB are free, {needed >> 20} MiB are needed",
                            "free some, or mount a larger file system there")  # fmt: skip


def dry_run(cluster: ClusterId, wishes: UpOptions) -> list[str]:
    """What `up` would do, a line each."""
    lines = []
    if config_files.exists(cluster):
        made = declare.existing_config(cluster, wishes)
    else:
        made, _ = declare.new_config(cluster, wishes)
        lines.append(f"write {cluster.config_file}")
    lines += [str(step) for step in steps_for(made)]
    return [*lines, *ganeti_steps(made, wishes)]


def steps_for(made: ClusterConfig) -> list[Step]:
    observed = observe.observe({made.id: made})
    return [*plan.lasting(made, observed), *plan.runtime(made, observed)]


def ganeti_steps(made: ClusterConfig, wishes: UpOptions) -> list[str]:
    """The commands of Ganeti that are still to be run, as far as its files tell."""
    lines = []
    first = made.nodes[0].id
    if ganeti_files.master_of(node.id for node in made.nodes) is None:
        lines.append(f"on {first.name}: {' '.join(ganeti.init_command(made))}")
    nodes, instances = _missing(made, wanted_instances(made, wishes))
    if seeding.wanted(wishes.join, nodes, instances):
        return [*lines, f"write {_both(nodes, instances)} into Ganeti's configuration"]
    lines += [f"gnt-node add {node.id.name}" for node in nodes]
    return [*lines, *(f"gnt-instance add {name}" for name in instances)]


def _both(nodes: list[NodeConfig], instances: list[str]) -> str:
    return f"{counted(len(nodes), 'node')} and {counted(len(instances), 'instance')}"


def wanted_instances(made: ClusterConfig, wishes: UpOptions) -> list[str]:
    return [name for name, _ in made.instances[: wishes.instances or 0]]


def bring_up(made: ClusterConfig, systemd: Systemd, progress: Progress, outcome: Outcome) -> None:
    """Make the cluster's surroundings, and start what is initialised of it."""
    prepare(made, systemd, progress, outcome)
    start(made, systemd, progress, outcome)


def prepare(made: ClusterConfig, systemd: Systemd, progress: Progress, outcome: Outcome) -> None:
    """Have the manager make the cluster's surroundings."""
    with progress.step("network, names and node directories"):
        outcome.changes += [str(step) for step in steps_for(made)]
        if systemd.active_state(names.MANAGER_SERVICE) != "active":
            systemd.start(names.MANAGER_SERVICE)
        errors = manager_client.request_reload()
    for name in ("", made.id.name):
        if name in errors:
            raise StepFailed(errors[name])
    _interrupted_init(made, progress)


def start(made: ClusterConfig, systemd: Systemd, progress: Progress, outcome: Outcome) -> None:
    """Start what is initialised of the cluster."""
    nodes = [node.id for node in made.nodes]
    before = {unit.name for unit in systemd.list_units("ganeti-*") if unit.active == "active"}
    with progress.step("systemd units", total=len(nodes)) as advance:
        pacing.wait(made.id, systemd, progress=advance)
        # Not started in the ordinary way, which would have another process wait for what is there.
        systemd.mark_started(names.ALL_OFF_SERVICE, names.ALL_TARGET, made.id.off_service, made.id.target)
    started = {unit.name for unit in systemd.list_units("ganeti-*") if unit.active == "active"} - before
    outcome.changes += [f"start {unit}" for unit in sorted(started)]


def _interrupted_init(made: ClusterConfig, progress: Progress) -> None:
    """Clear what an interrupted `gnt-cluster init` of ours left.

    It may look complete and not be: on a full disk Ganeti leaves an empty known_hosts behind. A cluster
    that has got more than its first node since then is in use.
    """
    first = made.nodes[0].id
    if not made.id.marker.exists():
        return
    if len((ganeti_files.ssconf(first, "node_list") or "").split()) > 1:
        made.id.marker.unlink()
        return
    progress.say("clearing what an interrupted gnt-cluster init left behind")
    ganeti.command(first, str(ganeti.DAEMON_UTIL), "stop-all")
    network.remove_addresses(made.device, [made.address])
    shutil.rmtree(first.data_dir)
    first.data_dir.mkdir()


def initialise(made: ClusterConfig, progress: Progress, outcome: Outcome, passing: bool = False) -> NodeId:
    """`gnt-cluster init` on the first node, unless a node is the master already; `passing`: see ganeti.init. Returns the master."""
    master = ganeti_files.master_of(node.id for node in made.nodes)
    if master is None:
        first = made.nodes[0]
        with progress.step(f"gnt-cluster init on {first.id.name}"):
            made.id.marker.touch()
            ganeti.init(made, passing)
            ganeti.make_rapi_user(made)
            made.id.marker.unlink()
        outcome.changes.append("gnt-cluster init")
        master = first.id
    outcome.master = master
    return master


def join(made: ClusterConfig, master: NodeId, progress: Progress, outcome: Outcome) -> None:
    """`gnt-node add` for each node Ganeti does not know, or of which an interrupted add left half."""
    known = ganeti.node_names(master)
    missing = [
        node for node in made.nodes if node.id.name not in known or not (node.id.data_dir / "server.pem").exists()
    ]
    if not missing:
        return
    groups, several = seeding.groups(made), len(made.seeding.groups) > 1
    with progress.step("gnt-node add", total=len(missing)) as advance:
        for node in missing:
            ganeti.node_add(master, node, readd=node.id.name in known, group=groups[node.id] if several else None)
            outcome.changes.append(f"gnt-node add {node.id.name}")
            advance()


def add_instances(wanted: list[str], master: NodeId, progress: Progress, outcome: Outcome) -> None:
    """Diskless instances, those of these names that do not exist yet."""
    present = ganeti.command(master, "gnt-instance", "list", "--no-headers", "-o", "name").stdout.split()
    missing = [name for name in wanted if name not in present]
    if not missing:
        return
    with progress.step("gnt-instance add", total=len(missing)) as advance:
        for name in missing:
            ganeti.add_instance(master, name)
            outcome.changes.append(f"gnt-instance add {name}")
            advance()


def up(cluster: ClusterId, wishes: UpOptions, progress: Progress) -> Outcome:
    """From nothing, or from anything between, to a running and verified cluster."""
    ganeti.check_installed()
    with locking.exclusive(progress.say), connect() as systemd:
        if config_files.exists(cluster):
            made = declare.existing_config(cluster, wishes)
            check_machine(made, wishes)
            adopt(cluster)
            outcome = Outcome(made)
        else:
            made, text = declare.new_config(cluster, wishes)
            check_machine(made, wishes)
            declare.write_config(cluster, text)
            outcome = Outcome(made, [f"write {cluster.config_file}"])
        return finish(made, wishes, systemd, progress, outcome)


def adopt(cluster: ClusterId) -> None:
    """A cluster that a `gnt-vcluster run` left which was killed, and that is asked for, is one like any other."""
    with locks.try_lock(cluster.throwaway) as nobodys:
        if nobodys:
            cluster.throwaway.unlink()


def finish(made: ClusterConfig, wishes: UpOptions, systemd: Systemd, progress: Progress, outcome: Outcome) -> Outcome:
    instances = wanted_instances(made, wishes)
    nodes, missing = _missing(made, instances)
    if seeding.wanted(wishes.join, nodes, missing):
        prepare(made, systemd, progress, outcome)
        master = initialise(made, progress, outcome, passing=True)
        _seed(made, master, nodes, missing, wishes.shared_key, systemd, progress, outcome)
        start(made, systemd, progress, outcome)
    else:
        bring_up(made, systemd, progress, outcome)
        master = initialise(made, progress, outcome)
    # Of a fresh one luxid is about to set the address.
    if not outcome.fresh and made.address not in network.addresses():
        # A bridge that was removed took it along.
        ganeti.command(master, "gnt-cluster", "activate-master-ip")
        outcome.changes.append("gnt-cluster activate-master-ip")
    join(made, master, progress, outcome)
    if instances:
        add_instances(instances, master, progress, outcome)
    if not outcome.changes or not wishes.verify:
        return outcome
    if len(made.nodes) > VERIFY_UP_TO:
        progress.say("not verified, as that takes long with so many nodes: gnt-cluster verify does it")
    else:
        with progress.step("gnt-cluster verify"):
            outcome.verify_errors = ganeti.verify(master)
    return outcome


def _missing(made: ClusterConfig, instances: list[str]) -> tuple[list[NodeConfig], list[str]]:
    """Nodes and of these instances what Ganeti does not know yet, as far as its files tell."""
    master = ganeti_files.master_of(node.id for node in made.nodes) or made.nodes[0].id
    known = (ganeti_files.ssconf(master, "node_list") or "").split()
    present = set((ganeti_files.ssconf(master, "instance_list") or "").split())
    # An uninitialised cluster gets its first node by gnt-cluster init.
    nodes = [node for node in made.nodes if node.id.name not in known and node.id != master]
    return nodes, [name for name in instances if name not in present]


def _seed(
    made: ClusterConfig, master: NodeId, nodes: list[NodeConfig], instances: list[str], shared_key: bool,
    systemd: Systemd, progress: Progress, outcome: Outcome,
) -> None:  # fmt: skip
    """Stop the master and write nodes and instances into the configuration."""
    if not outcome.fresh and systemd.active_state(master.service("luxid")) == "active":
        running = ganeti.command(master, "gnt-job", "list", "--running", "--no-headers", "-o", "id").stdout.split()
        if running:
            raise VclusterError(f"the job {running[0]} is running", "wait for its end, then repeat the command")
    with progress.step(f"writing {_both(nodes, instances)}"):
        systemd.stop(master.watcher_timer, master.service("watcher"), master.target)
        ganeti.command(master, str(ganeti.DAEMON_UTIL), "stop-all")
        seed.seed(master, seeding.document(made, nodes, instances, shared_key))
    outcome.changes.append(f"write {_both(nodes, instances)} into {master.data_dir}/config.data")
