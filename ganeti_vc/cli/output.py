# SPDX-License-Identifier: BSD-2-Clause
"""What the user sees: results on stdout, as tables or JSON; progress and errors on stderr.

On a terminal progress is a live line with a bar; elsewhere each finished step is a line.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from ganeti_vc.base.errors import UsageError

#: Of every JSON document we print; raised when a field changes its meaning or goes away.
SCHEMA = 1


#: How the user has called us, where that is not by our name alone: for what we tell him to type.
PROGRAM_VARIABLE = "GNT_VCLUSTER"


def program() -> str:
    return os.environ.get(PROGRAM_VARIABLE, "gnt-vcluster")


def counted(number: int, what: str) -> str:
    """1 node, 2 nodes."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


class Progress:
    """Shows the steps of a long command. With `quiet`, nothing."""

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet
        self._live = not quiet and sys.stderr.isatty()

    def say(self, text: str) -> None:
        """One line of information."""
        if not self._quiet:
            print(text, file=sys.stderr, flush=True)

    @contextlib.contextmanager
    def step(self, text: str, total: int = 0) -> Iterator[Callable[..., None]]:
        """Show a step while it runs. Yields a function to call once for each of `total` parts that is done."""
        begin = time.monotonic()
        if self._live:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
            from rich.progress import Progress as Bar

            columns = [SpinnerColumn(), TextColumn("{task.description}"),
                       *([BarColumn(bar_width=20), MofNCompleteColumn()] if total else []), TimeElapsedColumn()]  # fmt: skip
            with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
                task = bar.add_task(text, total=total or None)
                yield lambda *_: bar.advance(task)
        else:
            yield lambda *_: None
        self.say(f"{text} ({time.monotonic() - begin:.1f} s)")


def print_json(document: Mapping[str, object]) -> None:
    print(json.dumps({"schema": SCHEMA, **document}, indent=2, default=str))


def progress(args: argparse.Namespace) -> Progress:
    return Progress(quiet=getattr(args, "json", False))


def print_dry_run(lines: Sequence[str], args: argparse.Namespace) -> int:
    """What a command would do, a line each. Returns its exit status."""
    if args.json:
        print_json({"dry_run": True, "changes": list(lines)})
    else:
        print("\n".join(f"would {line}" for line in lines) if lines else "nothing to do")
    return 0


def print_listing(fields: Mapping[str, str], rows: Sequence[Mapping[str, object]], args: argparse.Namespace) -> None:
    """A table with the options of gnt-*: -o names fields, with commas, or "+name,..." more than the default ones.

    Raises UsageError for a field there is not.
    """
    names = args.output.removeprefix("+").split(",") if args.output else []
    for name in names:
        if name not in fields:
            raise UsageError(f"unknown field {name!r}", f"fields are {', '.join(fields)}")
    if not names or args.output.startswith("+"):
        names = [*fields, *names]
    print_table({name: fields[name] for name in names}, rows, not args.no_headers, args.separator)


def print_table(
    fields: Mapping[str, str], rows: Sequence[Mapping[str, object]], headers: bool = True, separator: str = ""
) -> None:
    """The `fields` of each row; they are names with their headings."""
    lines = [[_cell(row[name]) for name in fields] for row in rows]
    if headers:
        lines.insert(0, list(fields.values()))
    if separator:
        for line in lines:
            print(separator.join(line))
        return
    widths = [max((len(line[at]) for line in lines), default=0) for at in range(len(fields))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _cell(value: object) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, (list, tuple)):
        return ",".join(map(str, value)) or "-"
    return str(value)
