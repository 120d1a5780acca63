# SPDX-License-Identifier: BSD-2-Clause
"""scale: more or fewer nodes for a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ganeti_vc.base.errors import VclusterError
from ganeti_vc.base.progress import Progress
from ganeti_vc.machine import config_files, foreign, ganeti
from ganeti_vc.machine.systemd import connect
from ganeti_vc.model import config_text
from ganeti_vc.model.config import ClusterConfig, parse
from ganeti_vc.model.names import ClusterId
from ganeti_vc.model.options import UpOptions
from ganeti_vc.operations import bring_up, declare
from ganeti_vc.operations.bring_up import BringUp, Outcome
from ganeti_vc.reconcile import apply, ganeti_apply, ganeti_plan, locking
from ganeti_vc.reconcile.ganeti_steps import GanetiStep, RemoveNode
from ganeti_vc.reconcile.steps import Discard


@dataclass(frozen=True)
class Sizes:
    """A cluster as its file declares it now, and with the number of nodes that is asked for."""

    present: ClusterConfig
    wanted: ClusterConfig
    text: str  #: of the file with that number; nothing else in it changes

    @staticmethod
    def of(cluster: ClusterId, count: int) -> Sizes:
        """Read the file. Raises ConfigError when it, or the number, cannot be used."""
        present = config_files.load(cluster)
        text = config_text.replace_key(cluster.config_file.read_text(), "cluster", "nodes", str(count))
        return Sizes(present, parse(cluster, text), text)

    @property
    def discarded(self) -> list[Discard]:
        """The directories of the nodes that leave."""
        return [Discard(node.id.rootdir) for node in self.present.nodes[len(self.wanted.nodes) :]]


def dry_run(cluster: ClusterId, count: int, options: UpOptions) -> list[str]:
    """Return what `scale` would do, a line each."""
    sizes = Sizes.of(cluster, count)
    with connect() as systemd:
        leaving = ganeti_plan.leaving(sizes.present, sizes.wanted, ganeti_apply.observe(sizes.present, systemd))
        state = ganeti_plan.expected(ganeti_apply.foresee(sizes.wanted, systemd), leaving)
    lines = [*map(str, leaving)]
    if len(sizes.present.nodes) != count:
        lines.append(f"set nodes = {count} in {cluster.config_file}")
    gone = {step.node.name for step in leaving if isinstance(step, RemoveNode)}
    lines += map(str, bring_up.machine_steps(sizes.wanted, gone))
    lines += map(str, ganeti_plan.whole(sizes.wanted, options, state, changed=bool(lines)))
    return [*lines, *map(str, sizes.discarded)]


def scale(cluster: ClusterId, count: int, options: UpOptions, progress: Progress) -> Outcome:
    """Change the number of nodes. Surplus nodes leave from the last one on; they must be empty and not the master.

    Raises VclusterError that names what is in the way.
    """
    ganeti.check_installed()
    with locking.exclusive(progress.say), connect() as systemd:
        sizes = Sizes.of(cluster, count)
        bring_up.check_machine(sizes.wanted, systemd)
        if sizes.discarded:
            foreign.check(cluster)
        changes: list[str] = []
        state = ganeti_apply.observe(sizes.present, systemd)
        ganeti_plan.leaving(sizes.present, sizes.wanted, state)  # before anything is started: may they leave?
        if sizes.discarded and state.master:
            present = BringUp(sizes.present, systemd, progress)
            present.surroundings_and_start()
            leaving = ganeti_plan.leaving(sizes.present, sizes.wanted, ganeti_apply.ask(sizes.present, systemd))
            _check_empty(leaving)
            present.apply(leaving)
            changes = present.outcome.changes
        if sizes.text != cluster.config_file.read_text():
            declare.write_config(cluster, sizes.text)
            changes.append(f"set nodes = {count} in {cluster.config_file}")
        outcome = BringUp(sizes.wanted, systemd, progress, changes).run(options)
        apply.apply_all(sizes.discarded, systemd)
        outcome.changes += map(str, sizes.discarded)
        return outcome


def _check_empty(leaving: Sequence[GanetiStep]) -> None:
    """Raises VclusterError when a node that leaves has instances; then none has left."""
    for step in leaving:
        assert isinstance(step, RemoveNode)
        instances = ganeti.instances_on(step.master, step.node)
        if instances:
            raise VclusterError(
                f"{step.node.name} has the instance {instances[0]}" + (" and others" if instances[1:] else ""),
                f"first move or remove it, for example: gnt-vcluster exec {step.master.name} -- "
                f"gnt-node evacuate -f {step.node.name}",
            )
