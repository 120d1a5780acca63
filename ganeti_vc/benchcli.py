# SPDX-License-Identifier: BSD-2-Clause
"""gnt-vcluster bench at the edge: its options, its table and its files."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from ganeti_vc import bench, benchdata, benchpage, output
from ganeti_vc.base import files
from ganeti_vc.base.errors import UsageError, VclusterError
from ganeti_vc.operations import status


def _saved(name: str) -> benchdata.Result:
    hint = "gnt-vcluster bench --save FILE makes one"
    try:
        return benchdata.Result.from_document(json.loads(Path(name).read_text()), name)
    except OSError as err:
        raise VclusterError(f"cannot read {name}: {err.strerror}", hint) from None
    except (ValueError, AttributeError):
        raise VclusterError(f"{name} is no JSON document", hint) from None


def do_bench(args: argparse.Namespace) -> int:
    if args.html:
        benchpage.check()
    if args.compare:
        if args.save:
            raise UsageError("--compare measures nothing that could be saved", "leave out --save")
        results = [_saved(name) for name in args.compare]
        columns, rows = benchdata.COMPARED, benchdata.compare(*results)
        cells = benchdata.compared_cells(rows)
        document: dict[str, object] = {"a": results[0].about, "b": results[1].about, "comparison": rows}
    else:
        wishes = bench.Wishes(args.sizes, args.instances_per_node, args.runs, bench.operations(args.only), args.idle,
                              bench.settings(args.setting))  # fmt: skip
        results = [bench.bench(status.default_cluster(args.cluster), wishes, lambda found: _write_bench([found], args),
                               output.progress(args))]  # fmt: skip
        columns, cells = benchdata.table(results[0])
        document = results[0].document()
    _write_bench(results, args)
    if args.json:
        output.print_json(document)
        return 0
    for mark, result in zip(("A: ", "B: ") if args.compare else ("",), results, strict=True):
        print(mark + benchdata.summary(result))
    output.print_table(columns, cells)
    for line in benchdata.remarks(results):
        print(line)
    return 0


def _write_bench(results: Sequence[benchdata.Result], args: argparse.Namespace) -> None:
    """The files that are asked for."""
    if args.html:
        files.write(Path(args.html), benchpage.page(results))
    if args.save:
        text = json.dumps({"schema": output.SCHEMA, **results[0].document()}, indent=1)
        files.write(Path(args.save), f"{text}\n")
