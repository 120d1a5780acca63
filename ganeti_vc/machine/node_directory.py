# SPDX-License-Identifier: BSD-2-Clause
"""The files in a node directory and a cluster directory, which upstream's vcluster-setup makes.

Their texts are here. Ganeti's own ensure-dirs, which runs before the daemons, sets owners and modes below var/.
"""

from __future__ import annotations

from pathlib import Path

from ganeti_vc.base import constants
from ganeti_vc.model import names
from ganeti_vc.model.config import ClusterConfig, NodeConfig
from ganeti_vc.model.daemons import DAEMONS
from ganeti_vc.model.names import NodeId

#: Ganeti's defaults, by their paths on a node (node/view.py).
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
    # Of providers of external storage. Ganeti's ensure-dirs does not make it, and Ganeti wants it (storage/extstorage.py).
    "var/log/ganeti/extstorage",
    "var/run/ganeti",
)


def defaults_file(config: ClusterConfig, node: NodeConfig) -> str:
    """Return the text of etc/default/ganeti, which the units read as EnvironmentFile= and Ganeti's daemon-util sources.

    systemd ignores the last line, as it has no '='. In daemon-util that line hands over to ours.
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
    """Return the paths of `hardware_files`; a file is there only if the configuration asks for it."""
    return tuple(node.rootdir / "proc" / name for name in ("meminfo", "cpuinfo"))


def hardware_files(node: NodeConfig) -> dict[Path, str]:
    """Return /proc/meminfo and cpuinfo (proc(5)) of a node whose configuration sets its memory and processors.

    Ganeti reads these lines (hv_base.GetLinuxNodeInfo). Active is what the node itself uses; Ganeti subtracts what
    instances of the fake hypervisor use.
    """
    texts: dict[Path, str] = {}
    meminfo, cpuinfo = hardware_paths(node.id)
    if node.memory:
        own = min(256, node.memory // 8)
        figures = {"MemTotal": node.memory, "MemFree": node.memory - own, "MemAvailable": node.memory - own, "Buffers": 0,
                   "Cached": 0, "SwapCached": 0, "Active": own, "Inactive": 0, "SwapTotal": 0, "SwapFree": 0}  # fmt: skip
        texts[meminfo] = "".join(f"{name + ':':15} {figure << 10:12} kB\n" for name, figure in figures.items())
    if node.cpus:
        texts[cpuinfo] = "".join(
            f"processor\t: {number}\nvendor_id\t: ganeti-vcluster\nmodel name\t: virtual node\n\n"
            for number in range(node.cpus)
        )
    return texts


def cmd_script(node: NodeConfig) -> str:
    """Return the text of NODE/cmd, upstream's way to run a command on a node."""
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
    """Return start-all and the other scripts of the cluster directory, by name. Upstream has scripts of these names."""
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
    """Return text and mode of every file that we make below the cluster directory, by path."""
    contents: dict[Path, tuple[str, int]] = {}
    for name, text in cluster_scripts(config).items():
        contents[config.id.directory / name] = (text, 0o755)
    storage = f"{FILE_STORAGE}\n{SHARED_FILE_STORAGE}\n"
    for node in config.nodes:
        contents[node.id.defaults_file] = (defaults_file(config, node), 0o644)
        contents[node.id.rootdir / "etc/ganeti/file-storage-paths"] = (storage, 0o644)
        contents[node.id.rootdir / "cmd"] = (cmd_script(node), 0o755)
    return contents


def links(config: ClusterConfig) -> dict[Path, str]:
    """Return the targets of the symbolic links below the cluster directory, by path."""
    shared = SHARED_FILE_STORAGE.relative_to("/")
    return {node.id.rootdir / shared: str(config.id.shared_file_storage) for node in config.nodes}


def directories(config: ClusterConfig) -> tuple[Path, ...]:
    """Return the directories to make, each before those below it."""
    return (
        config.id.directory,
        config.id.shared_file_storage,
        *(node.id.rootdir / name for node in config.nodes for name in DIRECTORIES),
    )
