# SPDX-License-Identifier: BSD-2-Clause
"""What stands in a node directory and a cluster directory: the work of upstream's vcluster-setup.

All of it is said as text here; Ganeti's own ensure-dirs, run before the daemons, sets owners and
modes of what lies below var/.
"""

from __future__ import annotations

from pathlib import Path

from ganeti_vc.base import constants
from ganeti_vc.model import names
from ganeti_vc.model.config import ClusterConfig, NodeConfig
from ganeti_vc.model.daemons import DAEMONS
from ganeti_vc.model.names import NodeId

#: Ganeti's defaults, as seen on a node (view.py).
FILE_STORAGE = Path("/srv/ganeti/file-storage")
SHARED_FILE_STORAGE = Path("/srv/ganeti/shared-file-storage")

DIRECTORIES = (
    "srv/ganeti/file-storage",
    "srv/ganeti/os",
    "etc/default",
    "etc/ganeti",
    "var/lock",
    "var/lib/ganeti",
    "var/log/ganeti",
    "var/run/ganeti",
)


def defaults_file(config: ClusterConfig, node: NodeConfig) -> str:
    """etc/default/ganeti: read by the units as EnvironmentFile= and sourced by Ganeti's daemon-util.

    For systemd the last line is none, as it holds no '='; for daemon-util it is where we take over.
    """
    arguments = "".join(f"{daemon.args_key}='{node.daemon_args[daemon.name]}'\n" for daemon in DAEMONS)
    switch = f"{constants.FORK_SERVER_SWITCH}='yes'\n" if config.fork_server else ""
    return f"""\
# Settings of virtual node {node.id.name}. Made by ganeti-vcluster from {node.id.cluster.config_file},
# whose section [daemons] takes further arguments: changes here are overwritten.
{arguments}GANETI_ROOTDIR='{node.id.rootdir}'
GANETI_HOSTNAME='{node.id.name}'
{switch}\
# Daemons of this node are units; Ganeti's daemon-util leaves them to us.
case $0 in */daemon-util) export GANETI_ROOTDIR GANETI_HOSTNAME; exec {names.LIB_DIR}/daemon-util "$@" ;; esac
"""


def hardware_paths(node: NodeId) -> tuple[Path, ...]:
    """Where the files of `hardware_files` are, if the configuration asks for them."""
    return tuple(node.rootdir / "proc" / name for name in ("meminfo", "cpuinfo"))


def hardware_files(node: NodeConfig) -> dict[Path, str]:
    """What /proc says of a node's memory and processors (proc(5)), where its configuration does.

    Ganeti reads these lines (hv_base.GetLinuxNodeInfo): Active is what the node itself uses. What
    instances of the fake hypervisor use it subtracts by itself.
    """
    made: dict[Path, str] = {}
    meminfo, cpuinfo = hardware_paths(node.id)
    if node.memory:
        own = min(256, node.memory // 8)
        figures = {"MemTotal": node.memory, "MemFree": node.memory - own, "MemAvailable": node.memory - own, "Buffers": 0,
                   "Cached": 0, "SwapCached": 0, "Active": own, "Inactive": 0, "SwapTotal": 0, "SwapFree": 0}  # fmt: skip
        made[meminfo] = "".join(f"{name + ':':15} {figure << 10:12} kB\n" for name, figure in figures.items())
    if node.cpus:
        made[cpuinfo] = "".join(
            f"processor\t: {number}\nvendor_id\t: ganeti-vcluster\nmodel name\t: virtual node\n\n"
            for number in range(node.cpus)
        )
    return made


def cmd_script(node: NodeConfig) -> str:
    """NODE/cmd, upstream's way to run a command on a node."""
    return f"""\
#!/bin/bash
# Run a command on virtual node {node.id.name}: one argument is a shell command line, several are
# a command and its arguments.

enter='{names.LIB_DIR}/enter {node.id.name}'
[ $# -ne 1 ] || exec $enter bash -c "$1"
[ $# -ne 0 ] || exec $enter "${{SHELL:-/bin/bash}}"
exec $enter "$@"
"""


def cluster_scripts(config: ClusterConfig) -> dict[str, str]:
    """start-all and its like, by name, as upstream has them in the cluster directory."""
    head = f"#!/bin/bash\n# Virtual cluster {config.id.name}, made by ganeti-vcluster.\n\n"
    scripts = {
        f"{verb}-all": f"{head}exec systemctl {verb} {config.id.target}\n" for verb in ("start", "stop", "restart")
    }
    scripts["status-all"] = f'{head}exec gnt-vcluster status {config.id.name} "$@"\n'
    nodes = " ".join(node.id.name for node in config.nodes)
    scripts["watcher-all"] = f"""\
{head}status=0
for node in {nodes}; do
  echo "Running watcher for virtual node \\"$node\\" ..."
  {config.id.directory}/"$node"/cmd ganeti-watcher "$@" || status=$?
done
exit "$status"
"""
    return scripts


def files(config: ClusterConfig) -> dict[Path, tuple[str, int]]:
    """Every file we make below the cluster directory: path, text and mode."""
    made: dict[Path, tuple[str, int]] = {}
    for name, text in cluster_scripts(config).items():
        made[config.id.directory / name] = (text, 0o755)
    storage = f"{FILE_STORAGE}\n{SHARED_FILE_STORAGE}\n"
    for node in config.nodes:
        made[node.id.defaults_file] = (defaults_file(config, node), 0o644)
        made[node.id.rootdir / "etc/ganeti/file-storage-paths"] = (storage, 0o644)
        made[node.id.rootdir / "cmd"] = (cmd_script(node), 0o755)
    return made


def links(config: ClusterConfig) -> dict[Path, str]:
    """Symbolic links below the cluster directory: path and target."""
    shared = SHARED_FILE_STORAGE.relative_to("/")
    return {node.id.rootdir / shared: str(config.id.shared_file_storage) for node in config.nodes}


def directories(config: ClusterConfig) -> tuple[Path, ...]:
    return (
        config.id.directory,
        config.id.shared_file_storage,
        *(node.id.rootdir / name for node in config.nodes for name in DIRECTORIES),
    )
