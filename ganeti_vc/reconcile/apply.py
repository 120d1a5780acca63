# SPDX-License-Identifier: BSD-2-Clause
"""Doing what a plan says. Thin: every decision is made in plan.py."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from ganeti_vc.base import files
from ganeti_vc.base.errors import StepFailed, VclusterError
from ganeti_vc.base.process import run
from ganeti_vc.machine import hosts, network, node_disk, node_volumes, packet_filter, ssh
from ganeti_vc.machine.systemd import Systemd
from ganeti_vc.model import names
from ganeti_vc.model.addresses import Address
from ganeti_vc.model.names import ClusterId, NodeId
from ganeti_vc.node import view
from ganeti_vc.reconcile import steps


def apply_all(
    todo: Iterable[steps.Step], systemd: Systemd | None, progress: Callable[[steps.Step], None] = lambda _: None
) -> None:
    """Do the steps in order. Raises StepFailed that names the step; the rest is then left undone."""
    for step in todo:
        progress(step)
        try:
            apply(step, systemd)
        except OSError as err:
            raise StepFailed(f"cannot {step}: {err.strerror or err}", "fix that, then repeat the command") from err


def apply_each(
    todo: Mapping[ClusterId, Iterable[steps.Step]],
    systemd: Systemd | None,
    progress: Callable[[steps.Step], None] = lambda _: None,
) -> dict[ClusterId, VclusterError]:
    """Do the steps of each cluster. Return the errors: the failure of one cluster does not stop the others."""
    errors: dict[ClusterId, VclusterError] = {}
    for cluster, its_steps in todo.items():
        try:
            apply_all(its_steps, systemd, progress)
        except VclusterError as err:
            errors[cluster] = err
    return errors


# One case a step reads well, however many there are.
def apply(step: steps.Step, systemd: Systemd | None) -> None:  # noqa: C901, PLR0912
    """Do one step. Doing it again does no harm.

    `systemd` is None on a machine that was not booted with it: no unit is loaded, so none is stopped or reloaded.
    """
    match step:
        case steps.MakeDirectories(paths, mode):
            for path in paths:
                path.mkdir(mode=mode, parents=True, exist_ok=True)
        case steps.WriteFile(path, text, mode):
            files.write(path, text, mode)
        case steps.ShowHardware(node, path, text):
            _show_hardware(node, path, text)
        case steps.SetDisk(node, size):
            _set_disk(node, size)
        case steps.Unmount(node):
            node_disk.unmount(node)
        case steps.AttachVolumes(node, group, size):
            node_volumes.attach(node, group, size)
        case steps.DetachVolumes(node):
            node_volumes.detach(node)
        case steps.Remove(path):
            _remove(path)
        case steps.Discard(path):
            _discard(path, step.trash)
        case steps.RemoveEmpty(paths):
            files.remove_empty(*paths)
        case steps.Link(path, target):
            files.symlink(path, target)
        case steps.MakeKey(cluster):
            _make_key(cluster)
        case steps.SetHosts(cluster, lines):
            _set_hosts(cluster, lines)
        case steps.WriteLedger(cluster, ledger):
            files.write(cluster.ledger, ledger.to_json())
        case steps.MakeBridge(device):
            network.make_bridge(device)
        case steps.RemoveBridge(device):
            network.remove_link(device)
        case steps.ChangeAddresses(device, add, remove):
            network.remove_addresses(device, remove)
            network.add_addresses(device, add)
        case steps.ChangeRoute(net, present):
            (network.add_unreachable if present else network.remove_unreachable)(net)
        case steps.SetFilter(cluster, device, networks):
            if networks:
                packet_filter.drop(cluster, device, networks)
            else:
                packet_filter.forget(cluster)
        case steps.StopUnits() | steps.ReloadSystemd() | steps.ReloadSshd():
            if systemd is not None:
                _apply_to_systemd(step, systemd)


def _apply_to_systemd(step: steps.StopUnits | steps.ReloadSystemd | steps.ReloadSshd, systemd: Systemd) -> None:
    match step:
        case steps.StopUnits(units, patterns):
            _stop(systemd, units, patterns)
        case steps.ReloadSystemd():
            systemd.reload()
        case steps.ReloadSshd(cluster):
            if systemd.active_state(cluster.sshd_service) == "active":
                systemd.reload_by_signal(cluster.sshd_service)


def _show_hardware(node: NodeId, path: Path, text: str | None) -> None:
    """Write in place, as the file itself is mounted in the node's view. A node that runs gets or loses the mount."""
    target = Path("/") / path.relative_to(node.rootdir)
    if text is None:
        if view.noded_pid(node.name):
            run(["umount", str(target)], prefix=node.enter)
        path.unlink()
    elif path.exists():
        files.rewrite_in_place(path, text)
    else:
        files.write(path, text)
        if view.noded_pid(node.name):
            run(["mount", "--bind", str(path), str(target)], prefix=node.enter)


def _set_hosts(cluster: ClusterId, lines: tuple[tuple[Address, str], ...]) -> None:
    def change(text: str) -> str:
        return hosts.with_block(text, cluster, lines) if lines else hosts.without_block(text, cluster)

    files.edit(names.HOSTS_FILE, change)


def _set_disk(node: NodeId, size: int) -> None:
    if not node_disk.image(node).exists():
        node_disk.make(node, size)
    if node_disk.is_mounted(node):
        node_disk.grow(node, size)
    else:
        node_disk.mount(node, size)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        files.remove_tree(path)
    else:
        path.unlink(missing_ok=True)


def _discard(path: Path, trash: Path) -> None:
    _remove(trash)
    if path.exists():
        files.check_unmounted(path)
        path.rename(trash)
        _remove(trash)


def _make_key(cluster: ClusterId) -> None:
    ssh.make_key(cluster)
    public = ssh.private_key(cluster).with_suffix(".pub").read_text()
    files.write(ssh.authorized_keys(cluster), public, 0o600)


def _stop(systemd: Systemd, units: tuple[str, ...], patterns: tuple[str, ...]) -> None:
    systemd.stop(*units)
    # What is still there: daemons started by hand, timers, and slices, which nothing else stops.
    loaded = [unit for unit in systemd.list_units(*patterns) if unit.load == "loaded"]
    systemd.stop(*(unit.name for unit in loaded if unit.active != "inactive"))
    for unit in loaded:
        systemd.reset_failed(unit.name)
