# SPDX-License-Identifier: BSD-2-Clause
"""What listens on this machine, by the kernel's tables (proc(5), /proc/net/tcp and udp).

No connection is tried: noded logs a traceback for one that is closed at once. Every start of a daemon imports this module
(tools/units/launch), so it imports next to nothing.
"""

from __future__ import annotations

import _socket
import sys

_STATES = {"tcp": "0A", "udp": "07"}  # TCP_LISTEN; UDP has only "bound"


def local(address: str, port: int) -> str:
    """Return an address and a port as the kernel's tables write them."""
    raw = _socket.inet_pton(_socket.AF_INET6 if ":" in address else _socket.AF_INET, address)
    words = (raw[at : at + 4] for at in range(0, len(raw), 4))
    return "".join(f"{int.from_bytes(word, sys.byteorder):08X}" for word in words) + f":{port:04X}"


def bound(kind: str) -> set[str]:
    """Return the places on which something listens, as `local` writes them; `kind` is tcp or udp."""
    places: set[str] = set()
    for table in (kind, f"{kind}6"):
        try:
            with open(f"/proc/net/{table}") as lines:
                rows = [line.split() for line in lines]
        except FileNotFoundError:
            continue  # a kernel may lack IPv6
        places.update(row[1] for row in rows if row[3] == _STATES[kind])
    return places


def ports_on_all_addresses() -> frozenset[int]:
    """Return the ports on which something listens on all addresses of the machine."""
    pairs = (entry.split(":") for entry in bound("tcp") | bound("udp"))
    return frozenset(int(port, 16) for address, port in pairs if not address.strip("0"))
