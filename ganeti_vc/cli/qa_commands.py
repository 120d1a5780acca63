# SPDX-License-Identifier: BSD-2-Clause
"""qa: Ganeti's own QA suite."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from ganeti_vc.cli import output
from ganeti_vc.machine import ganeti
from ganeti_vc.operations import lookup
from ganeti_vc.operations.qa import runner, suite


def do_qa(args: argparse.Namespace) -> int:
    """Run the suite. Exit status 1 if a test failed."""
    begin = time.monotonic()
    junit, log = (Path(name).absolute() if name else None for name in (args.junit, args.log))
    only = args.only.split(",") if args.only else ()
    runner.check(only)
    tests = suite.runs(ganeti.version(), args.quick, only)
    cluster = lookup.default_cluster(args.cluster)
    results = runner.QaRun(cluster, tests, args.remainder, args.keep, junit, log, output.progress(args)).run()
    counts = {outcome: sum(result.outcome == outcome for result in results)
              for outcome in ("passed", "failed", "not applicable", "skipped")}  # fmt: skip
    seconds = time.monotonic() - begin
    if args.json:
        output.print_json(
            {
                "seconds": round(seconds),
                "counts": counts,
                "tests": [
                    {
                        "name": result.name,
                        "description": result.description,
                        "outcome": result.outcome,
                        "seconds": round(result.seconds, 1),
                    }
                    for result in results
                ],
            }
        )
    else:
        print(", ".join(f"{count} {outcome}" for outcome, count in counts.items()) + f" in {seconds:.0f} s")
    return 1 if counts["failed"] else 0
