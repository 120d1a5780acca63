# SPDX-License-Identifier: BSD-2-Clause
"""Looking at what Ganeti knows, and doing the steps that its commands do. Thin: ganeti_plan.py decides."""

from __future__ import annotations

import dataclasses

from ganeti_vc.base import files
from ganeti_vc.base.errors import VclusterError
from ganeti_vc.machine import ganeti, ganeti_files, network, seed
from ganeti_vc.machine.systemd import Systemd
from ganeti_vc.model.config import ClusterConfig
from ganeti_vc.model.options import NO_OPTIONS, UpOptions
from ganeti_vc.reconcile import ganeti_steps, pacing
from ganeti_vc.reconcile.ganeti_plan import GanetiState
from ganeti_vc.reconcile.ganeti_steps import GanetiStep


def observe(config: ClusterConfig, systemd: Systemd) -> GanetiState:
    """Return what is written in Ganeti's files; they lag some seconds behind a running master."""
    ids = [node.id for node in config.nodes]
    master = ganeti_files.master_of(ids)
    nodes = (ganeti_files.ssconf(master or ids[0], "node_list") or "").split()
    return GanetiState(
        master=master,
        nodes=frozenset(nodes),
        complete=frozenset(node.name for node in ids if (node.data_dir / "server.pem").exists()),
        instances=frozenset((ganeti_files.ssconf(master or ids[0], "instance_list") or "").split()),
        # A cluster that has got more than its first node since then is in use.
        half_initialised=config.id.marker.exists() and len(nodes) < 2,
        running=master is not None and systemd.active_state(master.service("luxid")) == "active",
        has_address=config.address in network.addresses(),
    )


def foresee(config: ClusterConfig, systemd: Systemd) -> GanetiState:
    """As `observe`, with the nodes that would have to start."""
    state = observe(config, systemd)
    stopped = pacing.incomplete((node.id for node in config.nodes), state.master, systemd)
    return dataclasses.replace(state, stopped=tuple(stopped))


def ask(config: ClusterConfig, systemd: Systemd, options: UpOptions = NO_OPTIONS) -> GanetiState:
    """As `observe`, with the nodes, and the instances if some are wanted, that the running master knows."""
    state = observe(config, systemd)
    if state.master is None:
        return state
    nodes = frozenset(ganeti.node_names(state.master))
    instances = frozenset(ganeti.instance_names(state.master)) if options.instances else state.instances
    return dataclasses.replace(state, nodes=nodes, instances=instances)


def apply(step: GanetiStep, systemd: Systemd) -> None:
    """Do one step. Raises StepFailed with Ganeti's own words."""
    match step:
        case ganeti_steps.ClearInit(config):
            _clear_init(config)
        case ganeti_steps.InitCluster(config, brief):
            config.id.marker.touch()
            ganeti.init(config, brief)
            ganeti.make_rapi_user(config)
            config.id.marker.unlink()
        case ganeti_steps.SeedCluster():
            _seed(step, systemd)
        case ganeti_steps.ActivateMasterIp(master):
            ganeti.command(master, "gnt-cluster", "activate-master-ip")
        case ganeti_steps.AddNode(master, node, readd, group):
            ganeti.node_add(master, node, readd, group)
        case ganeti_steps.AddInstance(master, name):
            ganeti.add_instance(master, name)
        case ganeti_steps.RemoveNode(master, node):
            ganeti.node_remove(master, node)
        case ganeti_steps.StartNodes() | ganeti_steps.VerifyCluster():
            raise AssertionError(f"operations/bring_up.py does this one: {step}")


def _clear_init(config: ClusterConfig) -> None:
    first = config.nodes[0].id
    ganeti.command(first, str(ganeti.DAEMON_UTIL), "stop-all")
    network.remove_addresses(config.device, [config.address])
    files.remove_tree(first.data_dir)
    first.data_dir.mkdir()


def _seed(step: ganeti_steps.SeedCluster, systemd: Systemd) -> None:
    master = step.master
    if not step.fresh and systemd.active_state(master.service("luxid")) == "active":
        running = ganeti.running_jobs(master)
        if running:
            raise VclusterError(f"the job {running[0]} is running", "wait for its end, then repeat the command")
    systemd.stop(master.watcher_timer, master.service("watcher"), master.target)
    ganeti.command(master, str(ganeti.DAEMON_UTIL), "stop-all")
    seed.seed(master, seed.document(step.config, step.nodes, step.instances, step.shared_key))
