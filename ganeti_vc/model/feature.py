# SPDX-License-Identifier: BSD-2-Clause
"""Something a machine has or lacks, and the command that provides it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Feature:
    """Something that a machine has or lacks."""

    key: str  #: its name in JSON
    what: str
    there: bool | None  #: None: only a trial could tell
    remedy: str
    optional: bool = False  #: everything works without it
    words: tuple[str, str] = ("missing", "there")  #: for False and True

    @property
    def word(self) -> str:
        """What a table shows."""
        if self.there is None:
            return "unknown"
        missing, there = self.words
        return there if self.there else missing

    @property
    def state(self) -> str:
        """ok, hint (it is missing and optional), missing or unknown."""
        if self.there is None:
            return "unknown"
        return "ok" if self.there else "hint" if self.optional else "missing"
