# SPDX-License-Identifier: BSD-2-Clause
"""Ganeti's QA suite as data: its configuration for a cluster, what it leaves out and why, and the results in its output."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ganeti_vc.model.config import ClusterConfig

_NEEDS_STORAGE = "needs LVM, DRBD, RBD or Gluster"
_NEEDS_HOTPLUG = "removes a disk from a running instance, which the fake hypervisor cannot"
#: The suite's switches that are off, and why: also a table of the manual.
NOT_RUN: Mapping[str, str] = {
    "instance-add-plain-disk": _NEEDS_STORAGE,
    "instance-add-drbd-disk": _NEEDS_STORAGE,
    "instance-add-rbd": _NEEDS_STORAGE,
    "instance-add-gluster": _NEEDS_STORAGE,
    "instance-replace-disks": _NEEDS_STORAGE,
    "instance-remove-drbd-offline": _NEEDS_STORAGE,
    "cluster-instance-policy": _NEEDS_STORAGE,
    "cluster-exclusive-storage": _NEEDS_STORAGE,
    "exclusive-storage-instance-tests": _NEEDS_STORAGE,
    "instance-modify-disks": _NEEDS_HOTPLUG,
    "instance-device-names": _NEEDS_HOTPLUG,
    "cluster-burnin": _NEEDS_HOTPLUG,
    "instance-import": _NEEDS_STORAGE,
    "instance-communication": "wants a TAP device of the instance, which the fake hypervisor has not",
    "instance-reinstall": "leaves an image name that does not exist in the instance, and the next reinstallation uses it",
    "instance-recreate-disks": "has nothing to remove of a diskless instance, and looks for shared files in the other directory",
    "cluster-oob": "copies a file in /tmp, and on a virtual node `gnt-cluster copyfile` takes only what is below the node directory",
    "node-oob": "sets a node online without --force: Ganeti then asks a question, and without a terminal takes No for the answer",
    "cluster-renew-crypto": "also wants root's own ssh keys renewed, which are left alone here (the rest of it is tested by us)",
    "instance-add-osparams": "waits four minutes: after `gnt-job cancel --kill` luxid looks at its queue only every 307 s; "
    "with --only instance-add-osparams it passes",
    "cluster-upgrade": "needs a second version of Ganeti",
    "group-custom-ssh-port": "needs LVM",
    "inter-cluster-instance-move": "needs LVM",
}
_WANTS_LVM = "wants LVM"
_WANTS_XEN = "wants Xen or KVM"
#: Tests that return without a command ("not applicable"), and why: the other table of the manual.
NOT_APPLICABLE: Mapping[str, str] = {
    "TestClusterReservedLvs": _WANTS_LVM,
    "TestGroupModify": _WANTS_LVM,
    "TestRapiQuery": _WANTS_LVM,
    "TestClusterModifyUserShutdown": _WANTS_XEN,
    "TestInstanceUserDown": _WANTS_XEN,
    "TestInstStatusCollector": _WANTS_XEN,
    "TestInstanceMigrate, TestInstanceFailover, TestRapiInstanceMigrate, TestRapiInstanceFailover":
        "want a mirrored disk: done with shared files, not with files",
    "TestInstanceGrowDisk": "wants a disk: not done with the diskless instance",
    "TestInstanceModifyPrimaryAndBack": "wants files: done with them only",
    "TestRapiStoppedInstanceConsole": "done, by a call that the suite does not print",
    "TestInstanceDataCensorship": "wants DRBD",
}  # fmt: skip
#: Switches whose tests stumble over a diskless instance, which the others want: they have a run of their own without one.
WITH_DISKS = ("instance-export", "instance-rename")
#: The same, with Ganeti 3.1.
WITH_DISKS_31 = ("instance-modify",)
#: For the time: what goes with these to the second cluster, so that both have about the same to do.
SECOND_CLUSTER_TESTS = (
    "test-jobqueue",
    "cluster-modify",
    "cluster-rename",
    "os",
    "filters",
    "node-modify",
    "jobqueue-performance",
)
#: A file for Xen: the suite changes Xen's parameters, and Ganeti checks them although no node runs Xen.
XEN_FILE = "/boot/vmlinuz-3-xenU"
#: For a run of a few minutes: a test of each kind, without those that wait.
QUICK = (
    "env", "cluster-info", "cluster-verify", "cluster-command", "cluster-copyfile", "cluster-redist-conf", "group-list",
    "node-info", "node-storage", "haskell-confd", "mon-collector", "rapi",
    "default-instance-tests", "instance-add-file", "instance-info", "instance-shutdown", "instance-reboot", "instance-console",
    "instance-grow-disk", "instance-convert-disk", "instance-modify-primary", "instance-export",
)  # fmt: skip


def runs(version: str, quick: bool, only: Collection[str] = ()) -> list[dict[str, bool]]:
    """The suite's switches for each run of it, which has a cluster to itself, by Ganeti's version ("3.0"): all that
    can run here, a few, or those named."""

    def some(names: Iterable[str]) -> dict[str, bool]:
        return {"default": False, "create-cluster": True, "cluster-destroy": True, **dict.fromkeys(names, True)}

    if only or quick:
        return [some(only or QUICK)]
    apart = (*WITH_DISKS, *(WITH_DISKS_31 if version == "3.1" else ()), *SECOND_CLUSTER_TESTS)
    most = {"default": True, **dict.fromkeys((*NOT_RUN, *apart), False)}
    return [
        most,
        some(
            ("default-instance-tests", "instance-add-file", "instance-add-shared-file", "performance", "rapi", *apart)
        ),
    ]


def configuration(config: ClusterConfig, tests: Mapping[str, bool]) -> dict[str, object]:
    """The suite's configuration for a cluster."""
    device, instances = config.device, [name for name, _ in config.instances]
    return {
        "name": config.name,
        "rename": instances[-1],
        "os": "noop",  # takes any parameter, as some tests want
        "maxmem": "256M",
        "minmem": "128M",
        "enabled-hypervisors": ",".join(config.ganeti.enabled_hypervisors),
        "enabled-disk-templates": ["diskless", "file", "sharedfile"],
        "convert-disk-templates": ["file", "sharedfile"],
        "disks": [{"size": "64M", "growth": "32M", "name": "disk0"}, {"size": "48M", "growth": "16M", "name": "disk1"}],
        "master-netdev": device,
        "default-nicparams": {"mode": "bridged", "link": device},
        "cluster-init-args": ["--no-etc-hosts", f"--node-parameters=ssh_port={config.ssh_port}",
                              f"--ipolicy-bounds-specs={config.ganeti.ipolicy_bounds_specs}",
                              f"--hypervisor-parameters=xen-pvm:kernel_path={XEN_FILE}",
                              f"--hypervisor-parameters=xen-hvm:kernel_path={XEN_FILE},device_model={XEN_FILE},vnc_password_file={XEN_FILE}"],
        # Keys that nobody uses: the cluster has its own already.
        "modify_ssh_setup": False,
        "ssh_key_type": "rsa",
        "ssh_dir": "/srv/ssh",
        "groups": {"group-with-nodes": "default", "inexistent-groups": ["group1", "group2", "group3"]},
        "networks": {"inexistent-networks": ["network1", "network2", "network3"]},
        "nodes": [{"primary": node.id.name, "secondary": str(node.secondary or node.address)} for node in config.nodes],
        "instances": [{"name": name} for name in instances[:6]],
        "options": {"reboot-types": ["soft", "hard", "full"], "use-iallocators": True, "max-parallel": 4},
        "tests": dict(tests),
    }  # fmt: skip
