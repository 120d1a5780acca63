# SPDX-License-Identifier: BSD-2-Clause
"""What is in the way of root's logins to the nodes: settings of this machine for its ssh client, for sshd, and for root.

The programs themselves are asked where they can tell beforehand: ssh -G, libwrap, root's shell.
"""

from __future__ import annotations

import fnmatch
import pwd
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from ganeti_vc.base import files
from ganeti_vc.base.process import run
from ganeti_vc.model import names
from ganeti_vc.model.config import ClusterConfig

SSH_CONFIG = Path("/etc/ssh/ssh_config")
HOSTS_ALLOW, HOSTS_DENY = Path("/etc/hosts.allow"), Path("/etc/hosts.deny")
SSHD_PROGRAMS = (Path("/usr/sbin/sshd"), Path("/usr/lib/openssh/sshd-session"))
#: Options of ssh_config(5) by which it goes elsewhere, with what is right. Ganeti gives user, port and host key itself.
CLIENT_OPTIONS = {"ProxyJump": "none", "ProxyCommand": "none", "Hostname": "%h"}
_SHELL_TRIAL = 42
#: hosts_access(3). With dry_run, as in tcpdmatch(8), no command of the files is run.
_ASK_LIBWRAP = """
import ctypes, sys
wrap = ctypes.CDLL("libwrap.so.0")
ctypes.c_int.in_dll(wrap, "dry_run").value = 1
sys.exit(0 if wrap.hosts_ctl(b"sshd", *(word.encode() for word in sys.argv[1:]), b"unknown") else 3)
"""


def obstacles(config: ClusterConfig) -> tuple[tuple[str, str], ...]:
    """Return what is in the way, each with its remedy. The first node stands for all."""
    return (*_include(config), *_client(config), *_wrappers(config), *_shell())


def _words(line: str) -> list[str]:
    """Return the keyword, in small letters, and the arguments of a line of ssh_config(5)."""
    keyword, *arguments = re.split(r"[\s=]+", line.strip(), maxsplit=1)
    return [keyword.lower(), *(word.strip('"') for word in " ".join(arguments).split("#")[0].split())]


def _include(config: ClusterConfig) -> Iterator[tuple[str, str]]:
    """Tell whether ssh reads our drop-in: by a line Include, for all hosts."""
    for_all = True
    for line in (files.read(SSH_CONFIG) or "").splitlines():
        match _words(line):
            case ["host", *patterns]:
                for_all = patterns == ["*"]
            case ["match", *criteria]:
                for_all = [word.lower() for word in criteria] == ["all"]
            case ["include", *patterns] if for_all:
                drop_in = str(config.id.ssh_drop_in)
                if any(fnmatch.fnmatch(drop_in, str(SSH_CONFIG.parent / pattern)) for pattern in patterns):
                    return
    yield (
        f"{SSH_CONFIG} does not include {names.SSH_CONFIG_DIR}/*.conf, so that ssh would not know the nodes' keys",
        f"add this as its first line: Include {names.SSH_CONFIG_DIR}/*.conf",
    )


def _client(config: ClusterConfig) -> Iterator[tuple[str, str]]:
    """Tell whether root's ssh client would go to the node itself."""
    node = config.nodes[0].id.name
    done = run(["ssh", "-v", "-G", f"root@{node}"])
    said = dict(line.partition(" ")[::2] for line in done.stdout.splitlines())
    read = [Path(path) for path in re.findall(r"Reading configuration data (\S+)", done.stderr)]
    for option, right in CLIENT_OPTIONS.items():
        value = said.get(option.lower(), right)
        if value not in (right, right.replace("%h", node)):
            others = " ".join(f"!{one.id.name}" for one in config.nodes[:2])
            what = f"{_place(option, read)}: root's ssh to {node} would use {option} {value}"
            yield what, f"except the nodes from it, as in: Host * {others}"


def _place(option: str, paths: list[Path]) -> str:
    """Return file and line in which an option stands first, of the files that ssh has read."""
    for path in paths:
        for number, line in enumerate((files.read(path) or "").splitlines(), 1):
            if _words(line)[0] == option.lower():
                return f"{path}, line {number}"
    return "the configuration of root's ssh client"


def _wrappers(config: ClusterConfig) -> Iterator[tuple[str, str]]:
    """Tell whether TCP wrappers (hosts_access(5)) let a node log in to another; most machines have no rules."""
    lines = [line for path in (HOSTS_ALLOW, HOSTS_DENY) for line in (files.read(path) or "").splitlines()]
    if not any(line.strip() and not line.startswith("#") for line in lines):
        return
    if not any(b"libwrap.so" in path.read_bytes() for path in SSHD_PROGRAMS if path.exists()):
        return
    node = config.nodes[0]
    for address in filter(None, (node.address, node.secondary)):
        done = run([sys.executable, "-I", "-c", _ASK_LIBWRAP, node.id.name, str(address)], check=False)
        if done.returncode == 3:
            net = next(net for net in config.networks if address in net)
            clients = f"[{net.network_address}]/{net.prefixlen}" if net.version == 6 else str(net)
            yield (
                f"{HOSTS_DENY} and {HOSTS_ALLOW} do not let {address} log in to sshd",
                f"add to {HOSTS_ALLOW}: sshd: {clients}",
            )


def _shell() -> Iterator[tuple[str, str]]:
    """Tell whether root's shell runs commands."""
    shell = pwd.getpwnam("root").pw_shell or "/bin/sh"
    try:
        status = run([shell, "-c", f"exit {_SHELL_TRIAL}"], check=False).returncode
    except OSError:
        status = 127
    if status != _SHELL_TRIAL:
        yield f"root's shell {shell} in /etc/passwd runs no commands", "usermod -s /bin/bash root"
