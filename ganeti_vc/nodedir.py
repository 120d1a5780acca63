# SPDX-License-Identifier: BSD-2-Clause
"""What stands in a node directory and a cluster directory: the work of upstream's vcluster-setup.

All of it is said as text here; Ganeti's own ensure-dirs, run before the daemons, sets owners and
modes of what lies below var/.
"""

from __future__ import annotations

from pathlib import Path

from ganeti_vc import names
from ganeti_vc.config import ClusterConfig, NodeConfig
from ganeti_vc.daemons import DAEMONS

DIRECTORIES = (
    "etc/default",
    "etc/ganeti",
    "var/lock",
    "var/lib/ganeti",
    "var/log/ganeti",
    "var/run/ganeti",
)


def defaults_file(node: NodeConfig) -> str:
    """etc/default/ganeti: read by the units as EnvironmentFile= and sourced by Ganeti's daemon-util.

    For systemd the last line is none, as it holds no '='; for daemon-util it is where we take over.
    """
    arguments = "".join(f"{daemon.args_key}='{node.daemon_args[daemon.name]}'\n" for daemon in DAEMONS)
    return f"""\
# Settings of virtual node {node.id.name}. Made by ganeti-vcluster from {node.id.cluster.config_file},
# whose section [daemons] takes further arguments: changes here are overwritten.
{arguments}GANETI_ROOTDIR='{node.id.rootdir}'
GANETI_HOSTNAME='{node.id.name}'
GANETI_VNODE_ADDRESS='{node.address}'
# Daemons of this node are units; Ganeti's daemon-util leaves them to us.
case $0 in */daemon-util) exec {names.LIB_DIR}/daemon-util "$@" ;; esac
"""


def cmd_script(node: NodeConfig) -> str:
    """NODE/cmd, upstream's way to run a command on a node."""
    return f"""\
#!/bin/bash
# Run a command on virtual node {node.id.name}: one argument is a shell command line, several are
# a command and its arguments.

export GANETI_ROOTDIR='{node.id.rootdir}'
export GANETI_HOSTNAME='{node.id.name}'

[ $# -ne 1 ] || exec bash -c "$1"
[ $# -ne 0 ] || exec "${{SHELL:-/bin/bash}}"
exec "$@"
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
    storage = f"{config.id.file_storage}\n{config.id.shared_file_storage}\n"
    for node in config.nodes:
        made[node.id.defaults_file] = (defaults_file(node), 0o644)
        made[node.id.rootdir / "etc/ganeti/file-storage-paths"] = (storage, 0o644)
        made[node.id.rootdir / "cmd"] = (cmd_script(node), 0o755)
    return made


def directories(config: ClusterConfig) -> tuple[Path, ...]:
    return (
        config.id.directory,
        config.id.file_storage,
        config.id.shared_file_storage,
        *(node.id.rootdir / name for node in config.nodes for name in DIRECTORIES),
    )
