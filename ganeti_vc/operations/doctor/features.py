# SPDX-License-Identifier: BSD-2-Clause
"""What the kernel and the installed programs can do. Nothing is tried: loading a module would change the machine."""

from __future__ import annotations

import contextlib
import gzip
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from ganeti_vc.machine import ganeti, network, packet_filter, ssh
from ganeti_vc.model import names
from ganeti_vc.model.config import ClusterConfig
from ganeti_vc.model.feature import Feature
from ganeti_vc.model.keys import DEFAULT_SSH_PORT
from ganeti_vc.node import view
from ganeti_vc.reconcile import refusals


def module(name: str, option: str, root: Path = Path("/")) -> bool | None:
    """Tell whether the kernel has a module, built in or loadable; None where its files are missing, as in a container."""
    if (root / "sys/module" / name).exists():
        return True
    release = os.uname().release
    with contextlib.suppress(OSError):
        directory = root / "lib/modules" / release
        listed = (directory / "modules.builtin").read_text() + (directory / "modules.dep").read_text()
        return f"/{name.replace('_', '-')}.ko" in listed or f"/{name}.ko" in listed
    with contextlib.suppress(OSError):
        return f"\n{option}=" in (root / f"boot/config-{release}").read_text()
    with contextlib.suppress(OSError):
        return f"\n{option}=" in gzip.decompress((root / "proc/config.gz").read_bytes()).decode()
    return None


def _bridge() -> bool | None:
    """Tell whether the kernel has bridges; one that exists is the best proof."""
    return any(Path("/sys/class/net").glob("*/bridge")) or module("bridge", "CONFIG_BRIDGE")


def _kernel(configs: Iterable[ClusterConfig]) -> Iterator[Feature]:
    yield Feature("bridge", "kernel: bridge", _bridge(), "take another kernel, or name a device (key device)")
    yield Feature(
        "cgroup2",
        "kernel: control groups v2",
        Path("/sys/fs/cgroup/cgroup.controllers").exists(),
        "boot with systemd.unified_cgroup_hierarchy=1",
    )
    namespaces = all(Path("/proc/self/ns", kind).exists() for kind in ("mnt", "uts", "net"))
    yield Feature("namespaces", "kernel: namespaces", namespaces, "take another kernel")
    yield Feature(
        "seccomp",
        "kernel: seccomp",
        "\nSeccomp:" in Path("/proc/self/status").read_text(),
        "without it, an idle confd takes nine times the processor time",
        optional=True,
    )
    yield Feature(
        "sysrq",
        f"kernel: {view.SYSRQ}",
        Path(view.SYSRQ).exists(),
        "nothing to do: gnt-cluster verify is told on the nodes",
        optional=True,
    )
    if any(node.volume_group for config in configs for node in config.nodes):
        # systemd makes both device nodes where the module could be loaded (kmod's static nodes); in a container they are missing.
        mapper = "device-mapper" in Path("/proc/misc").read_text() or Path("/dev/mapper/control").exists()
        for key, what, there in (("device-mapper", "device-mapper", mapper),
                                 ("loop", "loop devices", Path("/dev/loop-control").exists())):  # fmt: skip
            yield Feature(key, f"kernel: {what}", there, "take another kernel, or leave [nodes] volume_group empty")
        yield Feature("lvm", "program: lvm", shutil.which("lvm") is not None, "apt-get install lvm2")


def _programs() -> Iterator[Feature]:
    yield Feature("ganeti", "program: Ganeti", ganeti.DAEMON_UTIL.exists(), "apt-get install ganeti")
    yield Feature("sshd", "program: sshd", Path("/usr/sbin/sshd").exists(), "apt-get install openssh-server")
    yield Feature(
        "nft",
        "program: nft",
        packet_filter.tables() is not None,
        "apt-get install nftables, or let others reach the clusters (key reachable)",
        words=("missing, or the kernel's part", "there"),
    )
    yield Feature("host-key", f"file: {ssh.HOST_KEYS[0]}", ssh.HOST_KEYS[0].exists(), "ssh-keygen -A")
    yield Feature(
        "testsuite",
        "program: Ganeti's QA suite",
        names.GANETI_QA.exists(),
        "only for gnt-vcluster qa: apt-get install ganeti-testsuite",
        optional=True,
    )


def _ports(configs: Iterable[ClusterConfig]) -> Iterator[Feature]:
    taken = network.observe().taken_ports
    for daemon in refusals.listeners():
        yield Feature(
            f"port-{daemon.port}",
            f"port {daemon.port} ({daemon.name})",
            daemon.port not in taken,
            f"bind what has it to one address; a Ganeti: {daemon.args_key}='-b ADDRESS' in /etc/default/ganeti",
            words=("taken", "free"),
        )
    for port in sorted({config.ssh_port for config in configs} or {DEFAULT_SSH_PORT}):
        yield Feature(
            f"port-{port}",
            f"port {port} (sshd)",
            port not in taken,
            "give another one (key ssh_port)",
            words=("taken", "free"),
        )


def read(configs: Iterable[ClusterConfig]) -> list[Feature]:
    """Return all features, for these clusters."""
    configs = list(configs)
    directory = Feature("state", f"directory: {names.STATE_DIR}", names.STATE_DIR.is_dir(),
                        "reinstall the package ganeti-vcluster")  # fmt: skip
    insecure = [Feature(f"owner-{path}", f"directory: {path}", False, remedy, words=("others than root may write", ""))
                for path, remedy in ssh.insecure_directories()]  # fmt: skip
    return [*_kernel(configs), *_programs(), directory, *insecure, *_ports(configs)]
