# SPDX-License-Identifier: BSD-2-Clause
"""gnt-vcluster bench at the edge: its options, its table and its files."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from ganeti_vc.base import files
from ganeti_vc.base.errors import UsageError, VclusterError
from ganeti_vc.cli import output
from ganeti_vc.operations import lookup
from ganeti_vc.operations.bench import figures, html_page, measure


def _saved(name: str) -> figures.BenchResult:
    hint = "gnt-vcluster bench --save FILE makes one"
    try:
        return figures.BenchResult.from_document(json.loads(Path(name).read_text()), name)
    except OSError as err:
        raise VclusterError(f"cannot read {name}: {err.strerror}", hint) from None
    except (ValueError, AttributeError):
        raise VclusterError(f"{name} is not a JSON document", hint) from None


def do_bench(args: argparse.Namespace) -> int:
    """Measure, or compare two saved measurements."""
    if args.html:
        html_page.check()
    if args.compare:
        if args.save:
            raise UsageError("--compare measures nothing that could be saved", "leave out --save")
        results = [_saved(name) for name in args.compare]
        columns, rows = figures.COMPARED, figures.compare(*results)
        cells = figures.compared_cells(rows)
        document: dict[str, object] = {"a": results[0].about, "b": results[1].about, "comparison": rows}
    else:
        options = measure.BenchOptions(args.sizes, args.instances_per_node, args.runs, measure.operations(args.only), args.idle,
                              measure.settings(args.setting))  # fmt: skip
        results = [measure.bench(lookup.default_cluster(args.cluster), options, lambda result: _write_bench([result], args),
                               output.progress(args))]  # fmt: skip
        columns, cells = figures.table(results[0])
        document = results[0].document()
    _write_bench(results, args)
    if args.json:
        output.print_json(document)
        return 0
    for mark, result in zip(("A: ", "B: ") if args.compare else ("",), results, strict=True):
        print(mark + figures.summary(result))
    output.print_table(columns, cells)
    for line in figures.remarks(results):
        print(line)
    return 0


def _write_bench(results: Sequence[figures.BenchResult], args: argparse.Namespace) -> None:
    """The files that are asked for."""
    if args.html:
        files.write_in_place(Path(args.html), html_page.page(results))
    if args.save:
        text = json.dumps({"schema": output.SCHEMA, **results[0].document()}, indent=1)
        files.write_in_place(Path(args.save), f"{text}\n")
