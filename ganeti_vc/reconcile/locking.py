# SPDX-License-Identifier: BSD-2-Clause
"""One command at a time changes clusters."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from ganeti_vc.base import files, locks
from ganeti_vc.machine import exchange
from ganeti_vc.model import names


def one_at_a_time(say: Callable[[str], None]) -> contextlib.AbstractContextManager[None]:
    """Hold the lock of the commands that change clusters on this machine. The next command says so and waits."""
    return locks.lock(names.CONFIG_DIR, lambda: say("waiting for another gnt-vcluster to end"))


@contextlib.contextmanager
def exclusive(say: Callable[[str], None]) -> Iterator[None]:
    """As `one_at_a_time`; first finishes a `snapshot restore` that was killed, and removes what others have left."""
    with one_at_a_time(say):
        with locks.lock(names.STATE_DIR):
            exchange.finish_interrupted(all_of_them=True)
            sweep()
        yield


def sweep() -> None:
    """Remove what commands and managers that were killed have left beside the files that they wrote."""
    files.sweep(names.CONFIG_DIR, names.HOSTS_FILE.parent, names.SSH_CONFIG_DIR, *names.LINK_DIR.glob("*/"))
