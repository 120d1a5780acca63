# SPDX-License-Identifier: BSD-2-Clause
"""One command at a time changes clusters."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from ganeti_vc.base import locks
from ganeti_vc.machine import (
    exchange,
)
from ganeti_vc.model import names


def one_at_a_time(say: Callable[[str], None]) -> contextlib.AbstractContextManager[None]:
    """Only one command at a time changes clusters on a machine; the next one says so and waits."""
    return locks.lock(names.CONFIG_DIR, lambda: say("waiting for another gnt-vcluster to end"))


@contextlib.contextmanager
def exclusive(say: Callable[[str], None]) -> Iterator[None]:
    """The same, after what a `snapshot restore` that was killed has left is dealt with."""
    with one_at_a_time(say):
        with locks.lock(names.STATE_DIR):
            exchange.finish_interrupted(all_of_them=True)
        yield
