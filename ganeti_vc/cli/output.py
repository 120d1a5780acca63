# SPDX-License-Identifier: BSD-2-Clause
"""What the user sees: results on stdout, as tables or JSON; progress and errors on stderr.

On a terminal progress is a live line with a bar; elsewhere each finished step is a line.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence

from ganeti_vc.base.errors import UsageError
from ganeti_vc.base.progress import Progress

#: Of every JSON document we print; raised when a field changes its meaning or goes away.
SCHEMA = 1


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
