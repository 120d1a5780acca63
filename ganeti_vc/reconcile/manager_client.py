# SPDX-License-Identifier: BSD-2-Clause
"""Asking the running manager."""

from __future__ import annotations

import json
import socket

from ganeti_vc.base.errors import VclusterError
from ganeti_vc.model import names


def request_reload() -> dict[str, str]:
    """Have the running manager reconcile now. Returns what is wrong, by cluster ("": with the manager).

    Raises VclusterError when no manager answers.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        try:
            sock.connect(str(names.MANAGER_SOCKET))
            sock.sendall(b"reload")
            with sock.makefile("rb") as stream:
                answer = stream.read()
        except OSError as err:
            raise VclusterError(
                f"the manager does not answer: {err.strerror}", f"look at: systemctl status {names.MANAGER_SERVICE}"
            ) from None
    if not answer:
        raise VclusterError("the manager ended while it worked", f"look at: journalctl -u {names.MANAGER_SERVICE}")
    return dict(json.loads(answer))
