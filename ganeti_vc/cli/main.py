# SPDX-License-Identifier: BSD-2-Clause
"""gnt-vcluster: the edge of the program. Arguments in; results, one-line errors and an exit status out."""

from __future__ import annotations

import argparse
import importlib
import itertools
import logging
import os
import sys
from collections.abc import Callable, Sequence

from ganeti_vc.base.errors import VclusterError
from ganeti_vc.cli import in_sandbox, parser
from ganeti_vc.cli.arguments import Split
from ganeti_vc.node import view
from ganeti_vc.sandbox import sandboxes

#: As a shell gives it for a process that SIGINT, or SIGPIPE, has ended.
INTERRUPTED = 130
BROKEN_PIPE = 141


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Return the arguments. `remainder` has the words behind `--` as they are; `split` has the whole line."""
    # `--sandbox up`: argparse would take the command for the sandbox's name. So the options before it are parsed alone.
    before = list(itertools.takewhile(lambda word: word.startswith("-"), argv))
    line = list(argv)[len(before) :]
    behind: list[str] = []
    command = parser.BY_NAME.get(line[0]) if line else None
    if command and command.takes_remainder and "--" in line:
        at = line.index("--")
        line, behind = line[:at], line[at:]
    top = parser.build()
    args = top.parse_args([*map(_with_name, before), *line])
    if getattr(args, "json", False) and any(getattr(args, name, "") for name in ("output", "no_headers", "separator")):
        top.error("--json has all fields; -o, --no-headers and --separator are for tables: leave out one or the other")
    # `run make -- test`: the command has begun already, so the `--` is one of its words.
    args.remainder = behind if getattr(args, "words", None) else behind[1:]
    args.split = Split((*(word for word in before if not word.startswith("--sandbox")), *line), tuple(behind))
    return args


def _with_name(option: str) -> str:
    return f"--sandbox={sandboxes.DEFAULT}" if option == "--sandbox" else option


def _function(command: parser.Command) -> Callable[[argparse.Namespace], int]:
    """Import the function of a command, and nothing for the others: all imports would take longer than most commands."""
    module, _, name = command.function.partition(".")
    function: Callable[[argparse.Namespace], int] = getattr(importlib.import_module(f"ganeti_vc.cli.{module}"), name)
    return function


def _run(args: argparse.Namespace) -> int:
    """Run the command, here or in a sandbox. Returns its exit status."""
    command = parser.BY_NAME[args.command]
    box, reason = in_sandbox.chosen(args)
    if box:
        return in_sandbox.run_in_sandbox(box, reason, args, command.starts_sandbox)
    if os.geteuid() == 0:
        view.leave()
    status = _function(command)(args)
    sys.stdout.flush()
    return status


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program. Returns an exit status; errors are one line on standard error."""
    args = parse(sys.argv[1:] if argv is None else argv)
    if args.command is None:
        parser.build().print_help(sys.stderr)
        return 2
    os.umask(0o022)  # what we make is for Ganeti's own users, too; what is secret has a mode of its own
    logging.basicConfig(format="%(message)s", level=logging.DEBUG if args.debug else logging.WARNING)
    try:
        return _run(args)
    except VclusterError as err:
        if args.debug:
            logging.exception("traceback")
        print(f"gnt-vcluster: {err}", file=sys.stderr)
        return err.exit_status
    except KeyboardInterrupt:
        if hasattr(args, "dry_run"):  # commands that change something have it, and go on when they are repeated
            print("gnt-vcluster: interrupted; the same command goes on from here", file=sys.stderr)
        return INTERRUPTED
    except OSError as err:
        if args.debug:
            logging.exception("traceback")
        return _system_error(err)


def _system_error(err: OSError) -> int:
    if not isinstance(err, BrokenPipeError):
        what = f"{err.filename}: {err.strerror}" if err.filename else str(err)
        remedy = " (look at who may read and write it)" if isinstance(err, PermissionError) else ""
        print(f"gnt-vcluster: {what}{remedy}", file=sys.stderr)
    # When Python exits it writes the rest of its buffer. That would fail again, with a message of Python's.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return BROKEN_PIPE if isinstance(err, BrokenPipeError) else 1
