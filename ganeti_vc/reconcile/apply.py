# SPDX-License-Identifier: BSD-2-Clause
"""Looking at the machine, and doing what a plan says. Thin: every decision is made in plan.py."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from ganeti_vc.base import files
from ganeti_vc.base.errors import StepFailed
from ganeti_vc.base.process import run
from ganeti_vc.machine import exchange, ganeti, hosts, network, node_directory, node_disk, node_volumes, ssh
from ganeti_vc.machine.systemd import Systemd
from ganeti_vc.model import names
from ganeti_vc.model.config import ClusterConfig
from ganeti_vc.model.names import ClusterId, NodeId
from ganeti_vc.node import view
from ganeti_vc.reconcile import steps
from ganeti_vc.reconcile.state import Ledger, Observed


def _links(configs: Mapping[ClusterId, ClusterConfig]) -> dict[Path, str]:
    found = [
        names.LINK_DIR / "multi-user.target.wants" / names.ALL_TARGET,
        *names.LINK_DIR.glob(f"{names.ALL_TARGET}.wants/*"),
        *names.LINK_DIR.glob("ganeti-vcluster@*.target.wants/*"),
        *names.LINK_DIR.glob("ganeti-vnode@*.target.requires/*"),
        *names.REGISTRY_DIR.glob("*"),
        *names.ADDRESSES_DIR.glob("*"),
        *names.MOND_DIR.glob("*"),
        *(path for config in configs.values() for path in node_directory.links(config)),
    ]
    return {path: os.readlink(path) for path in found if path.is_symlink()}


def _contents(paths: Iterable[Path]) -> dict[Path, tuple[str, int]]:
    found = {}
    for path in paths:
        text = files.read(path)
        if text is not None:
            found[path] = (text, path.stat().st_mode & 0o777)
    return found


def observe(configs: Mapping[ClusterId, ClusterConfig]) -> Observed:
    """What is there of, or in the way of, these clusters and any others that left a trace."""
    ledgers = {
        ClusterId(path.stem): Ledger.from_json(path.read_text()) for path in (names.RUN_DIR / "clusters").glob("*.json")
    }
    host_keys = ssh.host_keys() if configs else ()
    paths = [
        *names.LINK_DIR.glob("ganeti-watcher@*.timer.d/interval.conf"),
        *names.SSH_CONFIG_DIR.glob("ganeti-vcluster-*.conf"),
        *ssh.SSH_RUN_DIR.glob("*/*"),
    ]
    for config in configs.values():
        paths += node_directory.files(config)
        paths += (path for node in config.nodes for path in node_directory.hardware_paths(node.id))
        paths.append(ssh.known_hosts(config.id))
    return Observed(
        network=network.observe(),
        hosts=files.read(names.HOSTS_FILE) or "",
        ledgers=ledgers,
        files=_contents(paths),
        links=_links(configs),
        directories=frozenset(
            path for config in configs.values() for path in node_directory.directories(config) if path.is_dir()
        ),
        keys=frozenset(
            cluster
            for cluster in configs
            if ssh.private_key(cluster).exists() and ssh.authorized_keys(cluster).exists()
        ),
        host_keys=host_keys,
        known_hosts={config.id: ssh.known_hosts_file(config, host_keys) for config in configs.values()},
        use_pam=ssh.root_is_locked(),
        insecure=ssh.insecure_directories(),
        user_namespace=Path("/proc/self/uid_map").read_text().split() != ["0", "0", "4294967295"],
        disks=node_disk.observe(),
        volumes=node_volumes.observe(),
        initialised={cluster: found for cluster in configs if (found := ganeti.initialised(cluster))},
    )


def _show_hardware(node: NodeId, path: Path, text: str | None) -> None:
    """In place, because the file itself is mounted in the node's view; a node that runs gets or loses the mount."""
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


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _stop(systemd: Systemd, units: tuple[str, ...], patterns: tuple[str, ...]) -> None:
    systemd.stop(*units)
    # Whatever is still there: daemons started by hand, timers, and slices, which nothing else stops.
    loaded = [unit for unit in systemd.list_units(*patterns) if unit.load == "loaded"]
    systemd.stop(*(unit.name for unit in loaded if unit.active != "inactive"))
    for unit in loaded:
        systemd.reset_failed(unit.name)


def one_at_a_time(say: Callable[[str], None]) -> contextlib.AbstractContextManager[None]:
    """Only one command at a time changes clusters on a machine; the next one says so and waits."""
    return files.lock(names.CONFIG_DIR, lambda: say("waiting for another gnt-vcluster to end"))


@contextlib.contextmanager
def alone(say: Callable[[str], None]) -> Iterator[None]:
    """The same, after what a `snapshot restore` that was killed has left is dealt with."""
    with one_at_a_time(say):
        with files.lock(names.STATE_DIR):
            exchange.settle(all_of_them=True)
        yield


def apply(step: steps.Step, systemd: Systemd) -> None:
    """Do one step. Doing it again does no harm."""
    match step:
        case steps.MakeDirectories(paths, mode):
            for path in paths:
                path.mkdir(mode=mode, parents=True, exist_ok=True)
        case steps.WriteFile(path, text, mode):
            files.write(path, text, mode)
        case steps.ShowHardware(node, path, text):
            _show_hardware(node, path, text)
        case steps.SetDisk(node, size):
            if not node_disk.image(node).exists():
                node_disk.make(node, size)
            if node_disk.is_mounted(node):
                node_disk.grow(node, size)
            else:
                node_disk.mount(node, size)
        case steps.Unmount(node):
            node_disk.unmount(node)
        case steps.AttachVolumes(node, group, size):
            node_volumes.attach(node, group, size)
        case steps.DetachVolumes(node):
            node_volumes.detach(node)
        case steps.Remove(path):
            _remove(path)
        case steps.Discard(path):
            _remove(step.trash)
            if path.exists():
                path.rename(step.trash)
                _remove(step.trash)
        case steps.RemoveEmpty(paths):
            files.remove_empty(*paths)
        case steps.Link(path, target):
            files.symlink(path, target)
        case steps.MakeKey(cluster):
            ssh.make_key(cluster)
            public = ssh.private_key(cluster).with_suffix(".pub").read_text()
            files.write(ssh.authorized_keys(cluster), public, 0o600)
        case steps.SetHosts(cluster, lines):
            text = files.read(names.HOSTS_FILE) or ""
            files.rewrite(
                names.HOSTS_FILE,
                hosts.with_block(text, cluster, lines) if lines else hosts.without_block(text, cluster),
            )
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
        case steps.StopUnits(units, patterns):
            _stop(systemd, units, patterns)
        case steps.ReloadSystemd():
            systemd.reload()
        case steps.ReloadSshd(cluster):
            if systemd.active_state(cluster.sshd_service) == "active":
                systemd.hang_up(cluster.sshd_service)


def apply_all(
    todo: Iterable[steps.Step], systemd: Systemd, progress: Callable[[steps.Step], None] = lambda _: None
) -> None:
    """Do the steps in order. Raises StepFailed that names the step; the rest is then left undone."""
    for step in todo:
        progress(step)
        try:
            apply(step, systemd)
        except OSError as err:
            raise StepFailed(f"cannot {step}: {err.strerror or err}",
                             "repeat the command once that is mended") from err  # fmt: skip
