# SPDX-License-Identifier: BSD-2-Clause
"""Signals around what must not be interrupted."""

from __future__ import annotations

import signal

import pytest

from ganeti_vc.base.signals import uninterrupted


def test_an_interruption_is_held_back_and_not_lost() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    ended = False
    try:
        with pytest.raises(KeyboardInterrupt), uninterrupted():
            signal.raise_signal(signal.SIGINT)
            ended = True
        assert ended and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
