# SPDX-License-Identifier: BSD-2-Clause
"""doctor: what this machine can hold."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict

from ganeti_vc.cli import output
from ganeti_vc.machine import sysctl
from ganeti_vc.machine.systemd import connect
from ganeti_vc.operations.doctor import examine, raising


def do_doctor(args: argparse.Namespace) -> int:
    """Show what fits, and with --fix raise parameters of the kernel."""
    fixes: list[raising.Raise] = []
    progress = output.progress(args)
    with connect() as systemd:
        report = examine.examine(systemd, args.nodes, args.instances)
        if args.dry_run:
            wanted = raising.checked(raising.raises(report.rows, sysctl.kept()))
            for one in wanted:
                if one.refused:
                    progress.say(str(one))
            return output.print_dry_run(raising.fix_lines(wanted), args)
        if args.fix:
            fixes = raising.fix(report)
            for one in fixes:
                progress.say(str(one))
            if not fixes:
                progress.say("there is nothing to raise")
            report = examine.examine(systemd, args.nodes, args.instances)
    if args.json:
        output.print_json({**report.document(), "fixes": [asdict(one) for one in fixes]})
    else:
        output.print_listing(examine.FIELDS, report.table(), args)
        sys.stdout.flush()
        progress.say(report.summary())
    if report.failures:
        raise report.error()
    return 0
