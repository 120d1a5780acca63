# SPDX-License-Identifier: BSD-2-Clause
"""exec, shell, logs: the commands for nodes."""

from __future__ import annotations

import argparse
import sys

from ganeti_vc.base.errors import UsageError
from ganeti_vc.cli import output
from ganeti_vc.operations import lookup, on_node


def do_exec(args: argparse.Namespace) -> int:
    """Run a command on nodes. On one node this process becomes the command."""
    if not args.remainder:
        raise UsageError("no command is given", "gnt-vcluster exec NODE... -- COMMAND [ARGUMENT...]")
    nodes = on_node.select(args.nodes, lookup.default_cluster(args.cluster))
    on_node.check_up(*nodes)
    if len(nodes) == 1 and not args.json:
        return on_node.replace(nodes[0], args.remainder)
    results = []
    for node in nodes:
        done = on_node.run_captured(node, args.remainder)
        results.append({"node": node.name, "status": done.returncode, "stdout": done.stdout, "stderr": done.stderr})
        if not args.json:
            for stream, text in ((sys.stdout, done.stdout), (sys.stderr, done.stderr)):
                for line in text.splitlines():
                    print(f"{node.name}: {line}", file=stream)
    if args.json:
        output.print_json({"results": results})
    # As a shell: a command killed by signal N has the status 128 + N.
    statuses = [done if done >= 0 else 128 - done for done in (int(str(r["status"])) for r in results)]
    return next((done for done in statuses if done), 0)


def do_shell(args: argparse.Namespace) -> int:
    """Open a shell on a node."""
    return on_node.shell(lookup.find_node(args.node))


def do_logs(args: argparse.Namespace) -> int:
    """Show the journal of a node."""
    options = ["--follow"] if args.follow else ["--no-pager"] if not sys.stdout.isatty() else []
    options += [f"--lines={args.lines}"] if args.lines else []
    options += ["--output=json"] if args.json else []
    return on_node.journal(lookup.find_node(args.node), args.daemon, options)
