# SPDX-License-Identifier: BSD-2-Clause
"""What listens on this machine, by the kernel's tables (proc(5), /proc/net/tcp and udp).

No connection is tried: noded logs a traceback for one that is closed at once. Every start of a daemon imports this module
(tools/units/launch), so it imports next to nothing.
"""

from __future__ import annotations

import _socket
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

_ESTABLISHED = "01"
#: What the IPv4 addresses of IPv6 sockets begin with (RFC 4291, 2.5.5.2).
_MAPPED = bytes(10) + b"\xff\xff"
_STATES = {"tcp": "0A", "udp": "07"}  # TCP_LISTEN; UDP has only "bound"


def local(address: str, port: int) -> str:
    """Return an address and a port as the kernel's tables write them."""
    raw = _socket.inet_pton(_socket.AF_INET6 if ":" in address else _socket.AF_INET, address)
    words = (raw[at : at + 4] for at in range(0, len(raw), 4))
    return "".join(f"{int.from_bytes(word, sys.byteorder):08X}" for word in words) + f":{port:04X}"


def _rows(kind: str) -> list[list[str]]:
    """Return the lines of the kernel's tables; `kind` is tcp or udp."""
    rows = []
    for table in (kind, f"{kind}6"):
        try:
            with open(f"/proc/net/{table}") as lines:
                rows += [line.split() for line in lines]
        except FileNotFoundError:
            continue  # a kernel may lack IPv6
    return rows


def peers(ports: Collection[int]) -> set[str]:
    """Return the addresses from which there are TCP connections to these ports of this machine."""
    found: set[str] = set()
    for row in _rows("tcp"):
        if row[3] == _ESTABLISHED and int(row[1].rpartition(":")[2], 16) in ports:
            words = row[2].rpartition(":")[0]
            raw = b"".join(
                int(words[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, len(words), 8)
            ).removeprefix(_MAPPED)
            found.add(_socket.inet_ntop(_socket.AF_INET6 if len(raw) == 16 else _socket.AF_INET, raw))
    return found


def bound(kind: str) -> dict[str, int]:
    """Return the places on which something listens, as `local` writes them, and whose each is; `kind` is tcp or udp."""
    return {row[1]: int(row[7]) for row in _rows(kind) if row[3] == _STATES[kind]}


def owner(near: str, far: str) -> int | None:
    """Return the user who has the end `near` of a TCP connection; None when that end is not on this machine, or closed.

    Both are written as `local` does. An IPv4 address may stand there as a part of an IPv6 one.
    """
    for row in _rows("tcp"):
        if row[2].endswith(far) and row[1].endswith(near) and row[9] != "0":
            return int(row[7])
    return None


def ports_on_all_addresses() -> dict[int, int]:
    """Return the ports on which something listens on all addresses of the machine, and whose each is."""
    entries = ((entry.split(":"), user) for entry, user in (bound("tcp") | bound("udp")).items())
    return {int(port, 16): user for (address, port), user in entries if not address.strip("0")}
