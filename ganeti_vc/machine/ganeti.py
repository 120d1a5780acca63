# SPDX-License-Identifier: BSD-2-Clause
"""Talking to Ganeti, by its own commands and files: always as a user would, inside a node."""

from __future__ import annotations

import re
import secrets
import shlex
import shutil
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
    """Raises VclusterError when Debian's ganeti package is not there."""
    if not DAEMON_UTIL.exists():
        raise VclusterError(f"Ganeti is not installed: {DAEMON_UTIL} is missing", "apt-get install ganeti")


def version() -> str:
    """Major and minor version of the installed package, as its directories have it: 3.0, 3.1."""
    return Path(constants.GANETI_PYTHON).resolve().name


def command(
    node: NodeId, *argv: str, check: bool = True, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a Ganeti command on a node and keep its output."""
    return run(argv, prefix=node.enter, check=check, environment=environment)


def init_command(config: ClusterConfig) -> list[str]:
    """`gnt-cluster init` for this cluster. Nothing of root's ssh or /etc/hosts is left to Ganeti."""
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


def init(config: ClusterConfig, passing: bool) -> None:
    """Initialise the cluster. `passing`: it is stopped again at once, so only what init itself asks is started (tools/nodes/daemon-util)."""
    environment = {"GANETI_VCLUSTER_START_ALL": "ganeti-noded ganeti-wconfd ganeti-luxid"} if passing else None
    command(config.nodes[0].id, *init_command(config), environment=environment)


def make_rapi_user(config: ClusterConfig) -> None:
    """A user of the remote API who may write (ganeti-rapi(8)), with a random password for root to read."""
    password, node = secrets.token_urlsafe(18), config.nodes[0].id
    files.write(config.id.rapi_password, f"{password}\n", 0o600)
    users = node.data_dir / "rapi/users"
    files.write(users, f"{RAPI_USER} {password} write\n", 0o640)
    shutil.chown(users, "gnt-rapi", "gnt-masterd")  # as ensure-dirs has it


def node_names(master: NodeId) -> list[str]:
    """The nodes Ganeti knows, by its running master."""
    return command(master, "gnt-node", "list", "--no-headers", "-o", "name").stdout.split()


def instance_names(master: NodeId) -> list[str]:
    """Return the names of the instances that the running master knows."""
    return command(master, "gnt-instance", "list", "--no-headers", "-o", "name").stdout.split()


def running_jobs(master: NodeId) -> list[str]:
    """Return the numbers of the jobs that run."""
    return command(master, "gnt-job", "list", "--running", "--no-headers", "-o", "id").stdout.split()


def node_add(master: NodeId, node: NodeConfig, readd: bool = False, group: str | None = None) -> None:
    """`gnt-node add`, and what it leaves out: confd on a node that became a master candidate."""
    argv = ["gnt-node", "add", "--no-ssh-key-check"]
    if readd:
        argv.append("--readd")
    else:
        argv += [f"--secondary-ip={node.secondary}"] if node.secondary is not None else []
        argv += [f"--node-group={group}"] if group else []
    command(master, *argv, node.id.name)
    command(node.id, str(DAEMON_UTIL), "check-and-start", "ganeti-confd")


def node_remove(master: NodeId, node: NodeId) -> None:
    """`gnt-node remove`. wconfd writes the files that list the nodes some time after: this waits for the master's."""
    command(master, "gnt-node", "remove", node.name)
    deadline = time.monotonic() + SSCONF_LIMIT
    while any(node.name in (ssconf(master, key) or "").split() for key in ("node_list", "node_primary_ips")):
        if time.monotonic() > deadline:
            raise StepFailed(f"{node.name} still stands in the master's ssconf files",
                             f"look at: journalctl -u {master.service('wconfd')}")  # fmt: skip
        time.sleep(0.1)


def instances_on(master: NodeId, node: NodeId) -> list[str]:
    out = command(master, "gnt-node", "list", "--no-headers", "--separator=|", "-o", "pinst_list,sinst_list", node.name)
    return [name for name in re.split(r"[|,\s]+", out.stdout) if name]


def verify(master: NodeId) -> tuple[str, ...]:
    """The errors that `gnt-cluster verify` finds."""
    done = command(master, "gnt-cluster", "verify", check=False)
    errors = tuple(line.strip(" -*") for line in (done.stdout + done.stderr).splitlines() if "ERROR" in line)
    if done.returncode and not errors:
        raise StepFailed(f"gnt-cluster verify ended with {done.returncode}: {done.stderr.strip().splitlines()[-1:]}")
    return errors


def add_instance_command(name: str) -> list[str]:
    """A running diskless instance of the OS that does nothing, placed by hail, without a network interface."""
    return ["gnt-instance", "add", "--disk-template=diskless", "--os-type=noop", "--no-nics",
            "--no-name-check", "--no-ip-check", "-B", "memory=128", "-I", "hail", name]  # fmt: skip


def add_instance(master: NodeId, name: str) -> None:
    command(master, *add_instance_command(name))
