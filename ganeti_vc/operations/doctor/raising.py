# SPDX-License-Identifier: BSD-2-Clause
"""doctor --fix: raising kernel parameters that are too low."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ganeti_vc.machine import sysctl
from ganeti_vc.model import capacity
from ganeti_vc.model.capacity import Row
from ganeti_vc.model.names import SYSCTL_FILE
from ganeti_vc.operations.doctor.examine import Report


@dataclass(frozen=True)
class Raise:
    """A parameter of the kernel that is too low, and its new value."""

    key: str
    before: int
    after: int
    refused: str = ""  #: why it stays as it is

    def __str__(self) -> str:
        if self.refused:
            return f"{self.key} stays at {self.before} instead of {self.after}: {self.refused}"
        return f"{self.key}: {self.before} -> {self.after}"


def raises(rows: Sequence[Row], kept: Mapping[str, int]) -> list[Raise]:
    """What would have to be raised, and to what; never to less than our file says already."""
    return [
        Raise(row.limit.key, row.present, max(capacity.enough(row.needed), kept.get(row.limit.key, 0)))
        for row in rows
        if row.limit.sysctl and row.state != "ok"
    ]


def checked(wanted: Sequence[Raise]) -> list[Raise]:
    """With the reason where this machine does not let us."""
    return [
        one if sysctl.is_writable(one.key)
        else replace(one, refused="it cannot be written here (in a container: raise it outside)")
        for one in wanted
    ]  # fmt: skip


def fix(report: Report) -> list[Raise]:
    """Raise what is too low and can be raised, now and at boot. What is high enough stays out of our file, what stands
    in it stays there.
    """
    before = sysctl.kept()
    wanted = checked(raises(report.rows, before))
    if all(one.refused for one in wanted):
        return wanted
    # The file first: interrupted, the next boot does the rest.
    sysctl.keep({**before, **{one.key: one.after for one in wanted if not one.refused}})
    done = []
    for one in wanted:
        if not one.refused:
            try:
                sysctl.write(one.key, one.after)
            except OSError as err:
                one = replace(one, refused=err.strerror or str(err))
        done.append(one)
    if any(one.refused for one in done):
        sysctl.keep({**before, **{one.key: one.after for one in done if not one.refused}})
    return done


def fix_lines(wanted: Sequence[Raise]) -> list[str]:
    """What `fix` would do, a line each."""
    lines = [f"set {one.key} from {one.before} to {one.after}" for one in wanted if not one.refused]
    return [*lines, *([f"write {SYSCTL_FILE}"] if lines else [])]
