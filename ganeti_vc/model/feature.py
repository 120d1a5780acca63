# SPDX-License-Identifier: BSD-2-Clause
"""Something a machine has or lacks, and the command that provides it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Feature:
    """Something that is there or not."""

    key: str  #: in JSON
    what: str
    there: bool | None  #: None: cannot be told without trying
    remedy: str
    optional: bool = False
    words: tuple[str, str] = ("missing", "there")

    @property
    def word(self) -> str:
        return "unknown" if self.there is None else self.words[self.there]

    @property
    def state(self) -> str:
        if self.there is None:
            return "unknown"
        return "ok" if self.there else "hint" if self.optional else "missing"
