# SPDX-License-Identifier: BSD-2-Clause
"""Running a command for which 127.0.0.1 has this node's confd, and nothing else.

The command runs in a network namespace of its own, so that nothing listens on the machine's 127.0.0.1. A socket of that
namespace and one of the machine's pass each other what they receive.
"""

from __future__ import annotations

import fcntl
import os
import select
import shlex
import socket
import struct
import subprocess
from collections.abc import Iterable, Sequence

from ganeti_vc.base.constants import UDP_PORTS
from ganeti_vc.node import libc

SIOCSIFFLAGS, IFF_UP = 0x8914, 1
#: The largest datagram.
DATAGRAM = 65536


def confd_address(defaults: Iterable[str]) -> str:
    """Return where the node's confd listens, from the lines of /etc/default/ganeti: the last -b counts."""
    line = next(line for line in defaults if line.startswith("CONFD_ARGS="))
    words = shlex.split(line.partition("=")[2])[0].split()
    return words[len(words) - words[::-1].index("-b")]


def main(argv: Sequence[str]) -> int:
    """Entry point of tools/nodes/local-confd: COMMAND [ARG...]. Returns its exit status."""
    with open("/etc/default/ganeti") as stream:
        address = confd_address(stream)
    outside = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    outside.connect((address, UDP_PORTS["confd"]))
    libc.unshare(libc.CLONE_NEWNET)
    inside = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    fcntl.ioctl(inside, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP))
    inside.bind(("127.0.0.1", UDP_PORTS["confd"]))
    command = subprocess.Popen(argv)
    ended = os.pidfd_open(command.pid)
    client = None
    waiting: list[int | socket.socket] = [ended, inside, outside]
    while ended not in (ready := select.select(waiting, [], [])[0]):
        if inside in ready:
            data, client = inside.recvfrom(DATAGRAM)
            outside.send(data)
        if outside in ready and client:
            inside.sendto(outside.recv(DATAGRAM), client)
    return command.wait()
