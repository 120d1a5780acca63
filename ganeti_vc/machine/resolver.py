# SPDX-License-Identifier: BSD-2-Clause
"""What resolv.conf(5) says."""

from __future__ import annotations

import contextlib
import ipaddress
from pathlib import Path

from ganeti_vc.base import files
from ganeti_vc.model.addresses import Address

RESOLV_CONF = Path("/etc/resolv.conf")


def nameservers() -> frozenset[Address]:
    """Return the nameservers of this machine. What is no address is left out, as the resolver does."""
    found = set()
    for line in (files.read(RESOLV_CONF) or "").splitlines():
        match line.split():
            case ["nameserver", text, *_]:
                with contextlib.suppress(ValueError):
                    found.add(ipaddress.ip_address(text))
    return frozenset(found)
