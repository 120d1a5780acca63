# SPDX-License-Identifier: BSD-2-Clause
"""What listens on this machine, as the kernel's tables have it (proc(5), /proc/net/tcp and udp).

Nothing is sent: a connection that is closed at once makes noded log a traceback. Every start of a
daemon imports this (tools/units/launch), so it imports next to nothing itself.
"""

from __future__ import annotations

import _socket
import sys

_STATES = {"tcp": "0A", "udp": "07"}  # TCP_LISTEN; UDP has only "bound"


def local(address: str, port: int) -> str:
    """How the kernel's tables write an address and a port."""
    raw = _socket.inet_pton(_socket.AF_INET6 if ":" in address else _socket.AF_INET, address)
    words = (raw[at : at + 4] for at in range(0, len(raw), 4))
    return "".join(f"{int.from_bytes(word, sys.byteorder):08X}" for word in words) + f":{port:04X}"


def bound(kind: str) -> set[str]:
    """All that is listened on; `kind` is tcp or udp, the strings are those of `local`."""
    found: set[str] = set()
    for table in (kind, f"{kind}6"):
        try:
            with open(f"/proc/net/{table}") as lines:
                rows = [line.split() for line in lines]
        except FileNotFoundError:
            continue  # a kernel may lack IPv6
        found.update(row[1] for row in rows if row[3] == _STATES[kind])
    return found


def ports_on_all_addresses() -> frozenset[int]:
    """Ports on which something listens on every address of the machine."""
    pairs = (entry.split(":") for entry in bound("tcp") | bound("udp"))
    return frozenset(int(port, 16) for address, port in pairs if not address.strip("0"))
