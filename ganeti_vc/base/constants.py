# SPDX-License-Identifier: BSD-2-Clause
"""Literals that programs of several layers share. No imports: each start of a daemon reads this."""

#: Where the package has its programs.
LIB_DIR = "/usr/lib/ganeti-vcluster"
RUN_DIR = "/run/ganeti-vcluster"
CGROUPS = "/sys/fs/cgroup"
#: NODE -> its node directory, for the `Condition*=` and `EnvironmentFile=` lines of the unit templates.
REGISTRY_DIR = "/run/ganeti-vcluster/nodes"
#: The machine's own programs, where a node has others in their place (node/view.py).
MACHINE_DIR = "/run/ganeti-vcluster/machine"
#: The fork server's socket (node/fork_server.py).
FORK_SERVER_SOCKET = "/run/ganeti-vcluster/forkserver.socket"
#: In a node's environment when its cluster wants the fork server.
FORK_SERVER_SWITCH = "GANETI_VCLUSTER_FORK_SERVER"

#: Ganeti's Python modules, by the link that follows the installed version.
GANETI_PYTHON = "/usr/share/ganeti/default"
#: Ganeti's program that gives directories and files their owners; it runs before a node's daemons.
ENSURE_DIRS = "/usr/lib/ganeti/ensure-dirs"

#: Ports of Ganeti's daemons (constants.DAEMONS_PORTS), by name without ``ganeti-``.
TCP_PORTS = {"noded": 1811, "mond": 1815, "rapi": 5080, "metad": 80}
UDP_PORTS = {"confd": 1814}
