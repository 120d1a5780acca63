# SPDX-License-Identifier: BSD-2-Clause
"""Signals around what must not be interrupted."""

from __future__ import annotations

import os
import signal

import pytest

from ganeti_vc.process import uninterrupted


def test_an_interruption_is_held_back_and_not_lost() -> None:
    ended = False
    with pytest.raises(KeyboardInterrupt), uninterrupted():
        os.kill(os.getpid(), signal.SIGINT)
        ended = True
    assert ended and signal.getsignal(signal.SIGINT) is signal.default_int_handler
