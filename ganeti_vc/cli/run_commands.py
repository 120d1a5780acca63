# SPDX-License-Identifier: BSD-2-Clause
"""run: a temporary cluster around one command."""

from __future__ import annotations

import argparse

from ganeti_vc.base.errors import UsageError
from ganeti_vc.cli import output
from ganeti_vc.machine import snapshots
from ganeti_vc.operations import temporary


def do_run(args: argparse.Namespace) -> int:
    """Run a command on the master of a new cluster. Returns its exit status."""
    argv = [*args.words, *args.remainder]
    if not argv:
        raise UsageError("no command is given", "gnt-vcluster run [OPTION...] [--] COMMAND [ARGUMENT...]")
    if args.snapshot and (args.nodes or args.instances):
        raise UsageError("--nodes and --instances do not go together with --from", "a snapshot has its own")
    snapshot = snapshots.find(args.snapshot) if args.snapshot else None
    return temporary.run(argv, temporary.options_for(args.nodes, args.instances), snapshot, output.progress(args))
