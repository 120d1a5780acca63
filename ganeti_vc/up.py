# SPDX-License-Identifier: BSD-2-Clause
"""up, create, scale: from a configuration to an initialised, verified, running cluster.

Every function here may be interrupted at any point and called again: it looks at what is there and
does what is missing.
"""

from __future__ import annotations

import logging
import shlex
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import ip_address

from ganeti_vc import (
    apply,
    config,
    files,
    ganeti,
    initext,
    keys,
    manager,
    names,
    network,
    plan,
    ready,
    seeding,
    volumes,
)
from ganeti_vc.addresses import DEFAULT_NETWORKS, AddressPlan, Network
from ganeti_vc.capacity import SPACE, SPACE_PER_NODE
from ganeti_vc.config import ClusterConfig, NodeConfig, key_error
from ganeti_vc.errors import ConfigError, StepFailed, VclusterError
from ganeti_vc.names import ClusterId, NodeId
from ganeti_vc.output import Progress, counted
from ganeti_vc.steps import Discard, Step
from ganeti_vc.systemd import Systemd, connect

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

    def document(self) -> dict[str, object]:
        return {
            "cluster": self.cluster.id.name,
            "nodes": [node.id.name for node in self.cluster.nodes],
            "master": self.master.name if self.master else None,
            "changed": bool(self.changes),
            "changes": self.changes,
            "verify_errors": list(self.verify_errors),
        }


@dataclass(frozen=True)
class Wishes:
    """What the options of `up` and `create` ask for; None: not said."""

    nodes: int | None = None
    instances: int | None = None
    domain: str | None = None
    network: str | None = None
    join: str = "auto"  #: how nodes and instances get into the cluster: auto, ganeti or seeding
    shared_key: bool = False
    verify: bool = True
    networks: tuple[Network, ...] = DEFAULT_NETWORKS  #: to choose from when none is asked for


NO_WISHES = Wishes()


def new_config(cluster: ClusterId, wishes: Wishes) -> tuple[ClusterConfig, str]:
    """A configuration for a cluster that has none yet: checked against everything, not written.

    What is not said is chosen: the domain is the cluster's name unless it is `default`, the network
    the first usual one that is free and large enough.
    """
    others, unreadable = config.readable(other for other in config.declared() if other != cluster)
    for other, err in unreadable.items():
        log.warning("left out of the check for overlaps: the cluster %s: %s", other.name, err)
    nodes = 3 if wishes.nodes is None else wishes.nodes
    instances = max(10, wishes.instances or 0)
    domain = wishes.domain if wishes.domain is not None else ("" if cluster.name == "default" else cluster.name)
    values = {"nodes": str(nodes), "instances": str(instances), "domain": domain}
    if not domain:
        del values["domain"]
    own = [str(net) for net in wishes.networks if AddressPlan(net).fits(nodes, instances)]
    networks = [wishes.network] if wishes.network else own or [str(DEFAULT_NETWORKS[-1])]
    problem: ConfigError | None = None
    observed = apply.observe({})
    for candidate in networks:
        text = keys.render({**values, "network": candidate})
        try:
            made = config.parse(cluster, text, written=False)
            config.check_against(made, others)
            _check_recorded(made, unreadable)
            plan.check_host(made, observed)
        except ConfigError as err:
            # A network of the user's choice is refused; of ours, the next one is tried.
            problem = problem or err
            if "network" not in err.message:
                raise
        else:
            _check_instances(made, wishes)
            return made, text
    assert problem
    if wishes.network or not own:
        raise problem
    listed = ", ".join(own) if len(own) <= len(DEFAULT_NETWORKS) else f"{own[0]} to {own[-1]}"
    raise ConfigError(f"new cluster {cluster.name}: no network is free of those taken by default: {listed}",
                      "give another one (--network CIDR), or destroy a cluster")  # fmt: skip


def _check_recorded(made: ClusterConfig, clusters: Iterable[ClusterId]) -> None:
    """Refuse networks of clusters whose files cannot be read: Ganeti has recorded the addresses of their nodes."""
    for other in clusters:
        recorded = ganeti.initialised(other)
        for name, address in recorded.nodes.items() if recorded else ():
            for net in made.networks:
                if ip_address(address) in net:
                    raise key_error(made, "network", f"{net} has the address {address} of {name} of the cluster {other.name}",
                                    "give each cluster a network of its own (--network)")  # fmt: skip


def _check_instances(made: ClusterConfig, wishes: Wishes) -> None:
    if (wishes.instances or 0) > len(made.instances):
        raise key_error(made, "instances", f"there are names for {len(made.instances)} instances, "
                        f"not for {wishes.instances}", "raise it, then: systemctl reload ganeti-vcluster")  # fmt: skip


def existing_config(cluster: ClusterId, wishes: Wishes) -> ClusterConfig:
    """The configuration of a cluster that has one; raises ConfigError where the options contradict it."""
    made = config.load(cluster)
    # The other clusters that can be read: a broken neighbour is its own problem.
    others = [loaded for other, loaded in manager.read_configs()[0].items() if other != cluster]
    config.check_against(made, others)
    suffix = made.name.partition(".")[2]
    for option, wish, actual, hint in (
        ("--nodes", wishes.nodes, len(made.nodes), f"use: gnt-vcluster scale {cluster.name} --nodes {wishes.nodes}"),
        ("--domain", wishes.domain, suffix, "destroy the cluster first, or leave the option out"),
        ("--network", wishes.network, str(made.network), "destroy the cluster first, or leave the option out"),
    ):
        if wish is not None and wish != actual:
            raise ConfigError(f"{option} {shlex.quote(str(wish))}: the cluster {cluster.name} has {actual or 'none'} "
                              f"in {cluster.config_file}", hint)  # fmt: skip
    _check_instances(made, wishes)
    return made


def check_absent(cluster: ClusterId, who: str) -> None:
    """Raises VclusterError when a cluster that `who` wants to make for itself is there already."""
    if config.exists(cluster) or cluster.directory.exists():
        raise VclusterError(f"the cluster {cluster.name} exists, and {who} makes one of its own",
                            f"name another, or: gnt-vcluster destroy {cluster.name}")  # fmt: skip


def write_config(cluster: ClusterId, text: str) -> None:
    try:
        files.write(cluster.config_file, text)
    except OSError as err:
        raise StepFailed(f"cannot write {cluster.config_file}: {err.strerror}") from err


def _check_machine(made: ClusterConfig, wishes: Wishes = NO_WISHES) -> None:
    """Refuse a disk that is full: Ganeti's jobs do not fail there, they hang. And a kernel that lacks what is asked for."""
    if any(node.volume_group for node in made.nodes):
        volumes.check_kernel()
    needed = SPACE + SPACE_PER_NODE * len(made.nodes)
    free = shutil.disk_usage(names.STATE_DIR).free
    if free < needed and ganeti_steps(made, wishes):
        raise VclusterError(f"{names.STATE_DIR}: {free >> 20} MiB are free, {needed >> 20} MiB are needed",
                            "free some, or mount a larger file system there")  # fmt: skip


def create(cluster: ClusterId, wishes: Wishes, dry_run: bool = False) -> ClusterConfig:
    """Write the configuration file of a new cluster, nothing else; with `dry_run`, not even that."""
    if config.exists(cluster):
        raise ConfigError(f"the cluster {cluster.name} exists already: {cluster.config_file}",
                          f"start it with: gnt-vcluster up {cluster.name}")  # fmt: skip
    made, text = new_config(cluster, wishes)
    if not dry_run:
        write_config(cluster, text)
    return made


def dry_run(cluster: ClusterId, wishes: Wishes) -> list[str]:
    """What `up` would do, a line each."""
    lines = []
    if config.exists(cluster):
        made = existing_config(cluster, wishes)
    else:
        made, _ = new_config(cluster, wishes)
        lines.append(f"write {cluster.config_file}")
    lines += [str(step) for step in steps_for(made)]
    return [*lines, *ganeti_steps(made, wishes)]


def steps_for(made: ClusterConfig) -> list[Step]:
    observed = apply.observe({made.id: made})
    return [*plan.lasting(made, observed), *plan.runtime(made, observed)]


def ganeti_steps(made: ClusterConfig, wishes: Wishes) -> list[str]:
    """The commands of Ganeti that are still to be run, as far as its files tell."""
    lines = []
    first = made.nodes[0].id
    if ganeti.master_of(node.id for node in made.nodes) is None:
        lines.append(f"on {first.name}: {' '.join(ganeti.init_command(made))}")
    nodes, instances = _missing(made, wanted_instances(made, wishes))
    if seeding.wanted(wishes.join, nodes, instances):
        return [*lines, f"write {_both(nodes, instances)} into Ganeti's configuration"]
    lines += [f"gnt-node add {node.id.name}" for node in nodes]
    return [*lines, *(f"gnt-instance add {name}" for name in instances)]


def _both(nodes: list[NodeConfig], instances: list[str]) -> str:
    return f"{counted(len(nodes), 'node')} and {counted(len(instances), 'instance')}"


def wanted_instances(made: ClusterConfig, wishes: Wishes) -> list[str]:
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
        errors = manager.request_reload()
    for name in ("", made.id.name):
        if name in errors:
            raise StepFailed(errors[name])
    _interrupted_init(made, progress)


def start(made: ClusterConfig, systemd: Systemd, progress: Progress, outcome: Outcome) -> None:
    """Start what is initialised of the cluster."""
    nodes = [node.id for node in made.nodes]
    before = {unit.name for unit in systemd.list_units("ganeti-*") if unit.active == "active"}
    with progress.step("systemd units", total=len(nodes)) as advance:
        ready.wait(made.id, systemd, progress=advance)
        systemd.start(made.id.target)
        systemd.mark_started(names.ALL_TARGET)
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
    if len((ganeti.ssconf(first, "node_list") or "").split()) > 1:
        made.id.marker.unlink()
        return
    progress.say("clearing what an interrupted gnt-cluster init left behind")
    ganeti.command(first, str(ganeti.DAEMON_UTIL), "stop-all")
    network.remove_addresses(made.device, [made.address])
    shutil.rmtree(first.data_dir)
    first.data_dir.mkdir()


def initialise(made: ClusterConfig, progress: Progress, outcome: Outcome) -> NodeId:
    """`gnt-cluster init` on the first node, unless a node is the master already. Returns the master."""
    master = ganeti.master_of(node.id for node in made.nodes)
    if master is None:
        first = made.nodes[0]
        with progress.step(f"gnt-cluster init on {first.id.name}"):
            made.id.marker.touch()
            ganeti.init(made)
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


def up(cluster: ClusterId, wishes: Wishes, progress: Progress) -> Outcome:
    """From nothing, or from anything between, to a running and verified cluster."""
    ganeti.check_installed()
    with apply.alone(progress.say), connect() as systemd:
        if config.exists(cluster):
            made = existing_config(cluster, wishes)
            _check_machine(made, wishes)
            adopt(cluster)
            outcome = Outcome(made)
        else:
            made, text = new_config(cluster, wishes)
            _check_machine(made, wishes)
            write_config(cluster, text)
            outcome = Outcome(made, [f"write {cluster.config_file}"])
        return _finish(made, wishes, systemd, progress, outcome)


def adopt(cluster: ClusterId) -> None:
    """A cluster that a `gnt-vcluster run` left which was killed, and that is asked for, is one like any other."""
    with files.try_lock(cluster.throwaway) as nobodys:
        if nobodys:
            cluster.throwaway.unlink()


def _finish(made: ClusterConfig, wishes: Wishes, systemd: Systemd, progress: Progress, outcome: Outcome) -> Outcome:
    instances = wanted_instances(made, wishes)
    nodes, missing = _missing(made, instances)
    if seeding.wanted(wishes.join, nodes, missing):
        prepare(made, systemd, progress, outcome)
        master = initialise(made, progress, outcome)
        _seed(made, master, nodes, missing, wishes.shared_key, systemd, progress, outcome)
        start(made, systemd, progress, outcome)
    else:
        bring_up(made, systemd, progress, outcome)
        master = initialise(made, progress, outcome)
    fresh = "gnt-cluster init" in outcome.changes  # then luxid is about to set the cluster's address
    if not fresh and made.address not in network.addresses():
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
    master = ganeti.master_of(node.id for node in made.nodes) or made.nodes[0].id
    known = (ganeti.ssconf(master, "node_list") or "").split()
    present = set((ganeti.ssconf(master, "instance_list") or "").split())
    # An uninitialised cluster gets its first node by gnt-cluster init.
    nodes = [node for node in made.nodes if node.id.name not in known and node.id != master]
    return nodes, [name for name in instances if name not in present]


def _seed(
    made: ClusterConfig, master: NodeId, nodes: list[NodeConfig], instances: list[str], shared_key: bool,
    systemd: Systemd, progress: Progress, outcome: Outcome,
) -> None:  # fmt: skip
    """Stop the master and write nodes and instances into the configuration."""
    if systemd.active_state(master.service("luxid")) == "active":
        running = ganeti.command(master, "gnt-job", "list", "--running", "--no-headers", "-o", "id").stdout.split()
        if running:
            raise VclusterError(f"the job {running[0]} is running", "wait for its end, then repeat the command")
    with progress.step(f"writing {_both(nodes, instances)}"):
        systemd.stop(master.watcher_timer, master.service("watcher"), master.target)
        ganeti.command(master, str(ganeti.DAEMON_UTIL), "stop-all")
        seeding.seed(master, seeding.document(made, nodes, instances, shared_key))
    outcome.changes.append(f"write {_both(nodes, instances)} into {master.data_dir}/config.data")


def _with_nodes(cluster: ClusterId, count: int) -> str:
    """The text of the configuration file with another number of nodes; nothing else in it changes."""
    text = cluster.config_file.read_text()
    changed = initext.replace_key(text, "cluster", "nodes", str(count))
    config.parse(cluster, changed)
    return changed


def scale_plan(cluster: ClusterId, count: int, join: str) -> tuple[ClusterConfig, str, list[str]]:
    """The present configuration, the text of the coming one, and what has to be done."""
    made = config.load(cluster)
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


def scale(cluster: ClusterId, count: int, wishes: Wishes, progress: Progress) -> Outcome:
    """More or fewer nodes. Surplus nodes leave from the last one on; they must be empty and not the master."""
    ganeti.check_installed()
    with apply.alone(progress.say), connect() as systemd:
        made, text, _ = scale_plan(cluster, count, wishes.join)
        coming = config.parse(cluster, text)
        _check_machine(coming)
        outcome = Outcome(coming)
        surplus = made.nodes[count:]
        if surplus:
            _leave(made, coming, systemd, progress, outcome)
        if text != cluster.config_file.read_text():
            write_config(cluster, text)
            outcome.changes.append(f"set nodes = {count}")
        _finish(coming, wishes, systemd, progress, outcome)
        for node in surplus:
            apply.apply_all([Discard(node.id.rootdir)], systemd)
        return outcome


def _leave(made: ClusterConfig, coming: ClusterConfig, systemd: Systemd, progress: Progress, outcome: Outcome) -> None:
    """`gnt-node remove` for the surplus nodes Ganeti knows, after a look at all of them."""
    master = ganeti.master_of(node.id for node in made.nodes)
    if master is None:
        return
    surplus = [node.id for node in made.nodes if node not in coming.nodes]
    if master in surplus:
        raise VclusterError(f"{master.name} is the master and cannot be removed",
                            f"first: gnt-vcluster exec {made.nodes[0].id.name} -- gnt-cluster master-failover")  # fmt: skip
    bring_up(made, systemd, progress, outcome)
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
