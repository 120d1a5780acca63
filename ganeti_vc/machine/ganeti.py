# SPDX-License-Identifier: BSD-2-Clause
"""Ganeti's own commands, run on a node as a user would run them."""

from __future__ import annotations

import grp
import pwd
import re
import secrets
import shlex
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from ganeti_vc.base import constants, files
from ganeti_vc.base.errors import StepFailed, VclusterError
from ganeti_vc.base.process import run
from ganeti_vc.machine import node_directory
from ganeti_vc.machine.ganeti_files import ssconf
from ganeti_vc.model import names
from ganeti_vc.model.config import ClusterConfig, NodeConfig
from ganeti_vc.model.names import NodeId

RAPI_USER = "gnt-vcluster"
SSCONF_LIMIT = 60.0  #: seconds
DAEMON_UTIL = Path("/usr/lib/ganeti/daemon-util")


def check_installed() -> None:
    """Raise VclusterError when Debian's package ganeti is not installed."""
    if not DAEMON_UTIL.exists():
        raise VclusterError(f"Ganeti is not installed: {DAEMON_UTIL} is missing", "apt-get install ganeti")


def version() -> str:
    """Return the major and minor version of the installed package, for example 3.0; its directories have that name."""
    return Path(constants.GANETI_PYTHON).resolve().name


def command(
    node: NodeId, *argv: str, check: bool = True, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command on a node, and return its status and output. With `check`, raises StepFailed."""
    return run(argv, prefix=node.enter, check=check, environment=environment)


def init_command(config: ClusterConfig) -> list[str]:
    """Return the `gnt-cluster init` of this cluster. It does not touch root's ssh or /etc/hosts."""
    first, settings = config.nodes[0], config.ganeti
    argv = [
        "gnt-cluster", "init", "--no-etc-hosts", "--no-ssh-init",
        f"--master-netdev={config.device}",
        f"--node-parameters=ssh_port={config.ssh_port},oob_program={names.LIB_DIR / 'oob'}",
        f"--enabled-hypervisors={','.join(settings.enabled_hypervisors)}",
        f"--enabled-disk-templates={','.join(settings.enabled_disk_templates)}",
        f"--nic-parameters=mode={settings.nic_mode},link={config.device}",
        f"--ipolicy-bounds-specs={settings.ipolicy_bounds_specs}",
        f"--candidate-pool-size={settings.candidate_pool_size}",
    ]  # fmt: skip
    if any(node.volume_group for node in config.nodes):
        argv.append(f"--vg-name={settings.vg_name}")
    if "file" in settings.enabled_disk_templates:
        argv.append(f"--file-storage-dir={node_directory.FILE_STORAGE}")
    if "sharedfile" in settings.enabled_disk_templates:
        argv.append(f"--shared-file-storage-dir={node_directory.SHARED_FILE_STORAGE}")
    if first.secondary is not None:
        argv += ["--primary-ip-version=6", f"--secondary-ip={first.secondary}"]
    return [*argv, *shlex.split(settings.init_options), config.name]


def init(config: ClusterConfig, brief: bool) -> None:
    """Initialise the cluster. Raises StepFailed.

    `brief`: it is stopped again at once, so tools/nodes/daemon-util starts only those daemons that init itself asks.
    """
    environment = {"GANETI_VCLUSTER_START_ALL": "ganeti-noded ganeti-wconfd ganeti-luxid"} if brief else None
    command(config.nodes[0].id, *init_command(config), environment=environment)


def make_rapi_user(config: ClusterConfig) -> None:
    """Make a user of the remote API who may write (ganeti-rapi(8)), with a random password that only root can read."""
    password, node = secrets.token_urlsafe(18), config.nodes[0].id
    files.write(config.id.rapi_password, f"{password}\n", 0o600)
    owner = pwd.getpwnam("gnt-rapi").pw_uid, grp.getgrnam("gnt-masterd").gr_gid  # as Ganeti's ensure-dirs sets them
    # Both directories are of Ganeti's users.
    with files.directory(node.data_dir) as data, files.directory("rapi", inside=data) as place:
        files.write_in(place, "users", f"{RAPI_USER} {password} write\n".encode(), 0o640, owner)


def node_names(master: NodeId) -> list[str]:
    """Return the names of the nodes that the running master knows."""
    return command(master, "gnt-node", "list", "--no-headers", "-o", "name").stdout.split()


def instance_names(master: NodeId) -> list[str]:
    """Return the names of the instances that the running master knows."""
    return command(master, "gnt-instance", "list", "--no-headers", "-o", "name").stdout.split()


def running_jobs(master: NodeId) -> list[str]:
    """Return the numbers of the jobs that run."""
    return command(master, "gnt-job", "list", "--running", "--no-headers", "-o", "id").stdout.split()


def node_add(master: NodeId, node: NodeConfig, readd: bool = False, group: str | None = None) -> None:
    """Run `gnt-node add`, and start confd on a new master candidate, which Ganeti leaves out. Raises StepFailed."""
    argv = ["gnt-node", "add", "--no-ssh-key-check"]
    if readd:
        argv.append("--readd")
    else:
        argv += [f"--secondary-ip={node.secondary}"] if node.secondary is not None else []
        argv += [f"--node-group={group}"] if group else []
    command(master, *argv, node.id.name)
    command(node.id, str(DAEMON_UTIL), "check-and-start", "ganeti-confd")


def node_remove(master: NodeId, node: NodeId) -> None:
    """Run `gnt-node remove`, and wait until wconfd has removed the node from the master's ssconf files.

    Raises StepFailed.
    """
    command(master, "gnt-node", "remove", node.name)
    deadline = time.monotonic() + SSCONF_LIMIT
    while any(node.name in (ssconf(master, key) or "").split() for key in ("node_list", "node_primary_ips")):
        if time.monotonic() > deadline:
            raise StepFailed(
                f"{node.name} still stands in the master's ssconf files",
                f"look at: journalctl -u {master.service('wconfd')}",
            )
        time.sleep(0.1)


def instances_on(master: NodeId, node: NodeId) -> list[str]:
    """Return the names of the instances that have this node as primary or secondary."""
    out = command(master, "gnt-node", "list", "--no-headers", "--separator=|", "-o", "pinst_list,sinst_list", node.name)
    return [name for name in re.split(r"[|,\s]+", out.stdout) if name]


def verify(master: NodeId) -> tuple[str, ...]:
    """Return the errors that `gnt-cluster verify` finds. Raises StepFailed when it fails without naming one."""
    done = command(master, "gnt-cluster", "verify", check=False)
    errors = tuple(line.strip(" -*") for line in (done.stdout + done.stderr).splitlines() if "ERROR" in line)
    if done.returncode and not errors:
        raise StepFailed(f"gnt-cluster verify ended with {done.returncode}: {done.stderr.strip().splitlines()[-1:]}")
    return errors


def add_instance_command(name: str) -> list[str]:
    """Return the command for a diskless instance of the OS noop, on a node that hail chooses, without a NIC."""
    return ["gnt-instance", "add", "--disk-template=diskless", "--os-type=noop", "--no-nics",
            "--no-name-check", "--no-ip-check", "-B", "memory=128", "-I", "hail", name]  # fmt: skip


def add_instance(master: NodeId, name: str) -> None:
    command(master, *add_instance_command(name))
