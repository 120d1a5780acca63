# SPDX-License-Identifier: BSD-2-Clause
"""up: make a running, verified cluster of a configuration.

Each part looks at what is there and does what is missing. So it may be interrupted at any point, and the same command
goes on from there.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

from ganeti_vc.base import locks
from ganeti_vc.base.errors import StepFailed, VclusterError
from ganeti_vc.base.progress import Progress
from ganeti_vc.machine import config_files, ganeti, ganeti_files, node_volumes
from ganeti_vc.machine.systemd import Systemd, connect
from ganeti_vc.model import names
from ganeti_vc.model.capacity import SPACE, SPACE_PER_NODE
from ganeti_vc.model.config import ClusterConfig
from ganeti_vc.model.names import ClusterId, NodeId
from ganeti_vc.model.options import NO_OPTIONS, UpOptions
from ganeti_vc.operations import declare
from ganeti_vc.reconcile import ganeti_apply, ganeti_plan, locking, manager_client, observe, pacing, plan
from ganeti_vc.reconcile.ganeti_steps import GanetiStep
from ganeti_vc.reconcile.steps import Step


@dataclass
class Outcome:
    """What `up`, `scale` and `snapshot restore` report."""

    config: ClusterConfig
    changes: list[str] = field(default_factory=list)
    master: NodeId | None = None
    verify_errors: tuple[str, ...] = ()

    def document(self) -> dict[str, object]:
        """Return it for --json."""
        return {
            "cluster": self.config.id.name,
            "nodes": [node.id.name for node in self.config.nodes],
            "master": self.master.name if self.master else None,
            "changed": bool(self.changes),
            "changes": self.changes,
            "verify_errors": list(self.verify_errors),
        }


class BringUp:
    """Brings one cluster up: for `up` itself, and for `scale`, `snapshot restore` and `run`."""

    def __init__(
        self, config: ClusterConfig, systemd: Systemd, progress: Progress, changes: Sequence[str] = ()
    ) -> None:
        """`changes` lists what the command has changed already; the outcome reports it first."""
        self._config = config
        self._systemd = systemd
        self._progress = progress
        self.outcome = Outcome(config, list(changes))

    def run(self, options: UpOptions) -> Outcome:
        """Do all of it. Raises VclusterError that names what failed."""
        self._prepare()
        state = ganeti_apply.observe(self._config, self._systemd)
        self.apply(ganeti_plan.before_start(self._config, options, state))
        self._start()
        state = ganeti_apply.ask(self._config, self._systemd, options)
        self.apply(ganeti_plan.after_start(self._config, options, state))
        self.outcome.master = self._master()
        self._verify(options)
        self._compare_versions()
        return self.outcome

    def surroundings(self) -> Outcome:
        """Make the cluster's surroundings, and start nothing."""
        self._prepare()
        self.outcome.master = self._master()
        return self.outcome

    def surroundings_and_start(self) -> Outcome:
        """Make the cluster's surroundings, and start what is initialised of it. Ganeti is not asked for anything."""
        self._prepare()
        self._start()
        self.outcome.master = self._master()
        return self.outcome

    def _prepare(self) -> None:
        """Have the manager make the cluster's surroundings."""
        with self._progress.step("network, names and node directories"):
            self.outcome.changes += map(str, machine_steps(self._config))
            if self._systemd.active_state(names.MANAGER_SERVICE) != "active":
                self._systemd.start(names.MANAGER_SERVICE)
            errors = manager_client.request_reload()
        for name in ("", self._config.id.name):
            if name in errors:
                raise StepFailed(errors[name])
        steps = ganeti_plan.clearing(self._config, ganeti_apply.observe(self._config, self._systemd))
        self.apply(steps)
        if not steps:
            # `gnt-cluster init` ended, only its marker was left.
            self._config.id.marker.unlink(missing_ok=True)

    def apply(self, steps: Sequence[GanetiStep]) -> None:
        """Have Ganeti do these steps; those of a kind share a line of progress."""
        for title, group in itertools.groupby(steps, key=lambda step: step.title):
            several = list(group)
            with self._progress.step(title, total=len(several)) as advance:
                for step in several:
                    ganeti_apply.apply(step, self._systemd)
                    self.outcome.changes.append(str(step))
                    advance()

    def _start(self) -> None:
        config, systemd = self._config, self._systemd
        before = self._active_units()
        with self._progress.step("systemd units", total=len(config.nodes)) as advance:
            pacing.wait(config.id, systemd, progress=advance)
            # All they wait for runs now. To start them would only start processes that wait for it again.
            systemd.mark_started(names.ALL_OFF_SERVICE, names.ALL_TARGET, config.id.off_service, config.id.target)
        self.outcome.changes += [f"start {unit}" for unit in sorted(self._active_units() - before)]

    def _active_units(self) -> set[str]:
        return {unit.name for unit in self._systemd.list_units("ganeti-*") if unit.active == "active"}

    def _master(self) -> NodeId | None:
        return ganeti_files.master_of(node.id for node in self._config.nodes)

    def _compare_versions(self) -> None:
        """Say that the machine has got another Ganeti since the cluster was made. Ganeti reads its older formats."""
        master, installed = self.outcome.master, ganeti.version()
        made_by = ganeti_files.config_version(master) if master else None
        if made_by not in (None, installed):
            upgrade = f"gnt-vcluster exec -c {self._config.id.name} master -- gnt-cluster upgrade --to={installed}"
            self._progress.say(
                f"the configuration is of Ganeti {made_by}, and {installed} is installed; to upgrade it: {upgrade}"
            )

    def _verify(self, options: UpOptions) -> None:
        master = self.outcome.master
        if master is None or not self.outcome.changes or not options.verify:
            return
        if len(self._config.nodes) > ganeti_plan.VERIFY_UP_TO:
            self._progress.say(
                "not verified: with so many nodes that takes long; to do it: gnt-vcluster exec master -- gnt-cluster verify"
            )
            return
        with self._progress.step("gnt-cluster verify"):
            self.outcome.verify_errors = ganeti.verify(master)


def machine_steps(config: ClusterConfig, leaving: Collection[str] = ()) -> list[Step]:
    """Plan what the manager does for this cluster, when the nodes `leaving` have left Ganeti. Raises ConfigError."""
    state = observe.observe({config.id: config}, logins=True)
    recorded = state.initialised.get(config.id)
    if recorded and leaving:
        stay = {name: address for name, address in recorded.nodes.items() if name not in leaving}
        state = replace(state, initialised={config.id: replace(recorded, nodes=stay)})
    return plan.reconcile({config.id: config}, state)


def check_machine(config: ClusterConfig, systemd: Systemd, options: UpOptions = NO_OPTIONS) -> None:
    """Refuse a kernel that lacks what is needed, and a full disk if Ganeti has work to do: its jobs would hang, not fail.

    Raises VclusterError.
    """
    if any(node.volume_group for node in config.nodes):
        node_volumes.check_kernel()
    needed = SPACE + SPACE_PER_NODE * len(config.nodes)
    free = shutil.disk_usage(names.STATE_DIR).free
    if free >= needed:
        return
    state = ganeti_apply.observe(config, systemd)
    if ganeti_plan.after_start(config, options, state):
        raise VclusterError(
            f"{names.STATE_DIR}: {free >> 20} MiB are free, {needed >> 20} MiB are needed",
            "free some, or mount a larger file system there",
        )


def dry_run(cluster: ClusterId, options: UpOptions) -> list[str]:
    """Return what `up` would do, a line each."""
    lines = []
    if config_files.exists(cluster):
        config = declare.existing_config(cluster, options)
    else:
        config, _ = declare.new_config(cluster, options)
        lines.append(f"write {cluster.config_file}")
    lines += map(str, machine_steps(config))
    with connect() as systemd:
        state = ganeti_apply.foresee(config, systemd)
    return [*lines, *map(str, ganeti_plan.whole(config, options, state, changed=bool(lines)))]


def up(cluster: ClusterId, options: UpOptions, progress: Progress) -> Outcome:
    """Bring a cluster up, from whatever state it is in. Raises VclusterError that names what failed."""
    ganeti.check_installed()
    with locking.exclusive(progress.say), connect() as systemd:
        if config_files.exists(cluster):
            config = declare.existing_config(cluster, options)
            check_machine(config, systemd, options)
            adopt(cluster)
            return BringUp(config, systemd, progress).run(options)
        config, text = declare.new_config(cluster, options)
        check_machine(config, systemd, options)
        declare.write_config(cluster, text)
        return BringUp(config, systemd, progress, [f"write {cluster.config_file}"]).run(options)


def adopt(cluster: ClusterId) -> None:
    """Keep a cluster that belonged to a `gnt-vcluster run` which was killed: it is like any other from now on."""
    with locks.try_lock(cluster.throwaway) as is_free:
        if is_free:
            cluster.throwaway.unlink()
