# SPDX-License-Identifier: BSD-2-Clause
"""gnt-vcluster: the edge of the program. Arguments in; results, one-line errors and a status out."""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from ganeti_vc import (
    apply,
    bench,
    benchdata,
    benchpage,
    config,
    destroy,
    doctor,
    files,
    ganeti,
    inside,
    names,
    output,
    parser,
    qa,
    restore,
    sandbox,
    sandboxed,
    save,
    snapshots,
    status,
    sysctl,
    throwaway,
    up,
    view,
)
from ganeti_vc.errors import StepFailed, UsageError, VclusterError
from ganeti_vc.output import Progress
from ganeti_vc.qasuite import runs
from ganeti_vc.systemd import connect


def _progress(args: argparse.Namespace) -> Progress:
    return Progress(quiet=getattr(args, "json", False))


def _wishes(args: argparse.Namespace) -> up.Wishes:
    return up.Wishes(
        args.nodes,
        args.instances,
        args.domain,
        args.network,
        getattr(args, "join", "auto"),
        getattr(args, "shared_key", False),
        not getattr(args, "no_verify", False),
    )


def _show_dry_run(lines: Sequence[str], args: argparse.Namespace) -> int:
    if args.json:
        output.print_json({"dry_run": True, "changes": list(lines)})
    else:
        print("\n".join(f"would {line}" for line in lines) if lines else "nothing to do")
    return 0


def _report(outcome: up.Outcome, seconds: float, args: argparse.Namespace) -> int:
    errors = outcome.verify_errors
    if args.json:
        output.print_json({**outcome.document(), "seconds": round(seconds, 1)})
    elif not errors:
        cluster = outcome.cluster.id.name
        master = outcome.master.name if outcome.master else "none"
        nodes = output.counted(len(outcome.cluster.nodes), "node")
        what = "is up" if outcome.changes else "is up already, nothing was changed"
        print(f"Cluster {cluster} {what}: {nodes}, master {master} ({seconds:.0f} s).")
        if args.command == "up" and outcome.changes:
            print(f"""
Try:
  {output.program()} exec {master_option(outcome)}master -- gnt-node list
  {output.program()} shell {outcome.cluster.nodes[0].id.name}
  {output.program()} status {cluster}
  {output.program()} logs {outcome.cluster.nodes[0].id.name} -f""")
    if errors:
        raise StepFailed(f"gnt-cluster verify finds: {errors[0]}" + (f" and {len(errors) - 1} more" if errors[1:] else ""),
                         f"look at: gnt-vcluster exec {master_option(outcome)}master -- gnt-cluster verify")  # fmt: skip
    return 0


def master_option(outcome: up.Outcome) -> str:
    name = outcome.cluster.id.name
    return "" if name == "default" else f"-c {name} "


def do_up(args: argparse.Namespace) -> int:
    cluster = status.default_cluster(args.cluster)
    if args.dry_run:
        return _show_dry_run(up.dry_run(cluster, _wishes(args)), args)
    begin = time.monotonic()
    outcome = up.up(cluster, _wishes(args), _progress(args))
    return _report(outcome, time.monotonic() - begin, args)


def do_create(args: argparse.Namespace) -> int:
    cluster = status.default_cluster(args.cluster)
    made = up.create(cluster, _wishes(args), args.dry_run)
    if args.dry_run:
        return _show_dry_run([f"write {cluster.config_file}"], args)
    if args.json:
        output.print_json({"cluster": cluster.name, "file": str(cluster.config_file), "nodes": len(made.nodes)})
    else:
        print(f"{cluster.config_file} is written. Next: gnt-vcluster up {cluster.name}")
    return 0


def do_status(args: argparse.Namespace) -> int:
    cluster = status.default_cluster(args.cluster)
    live = not args.json and sys.stdout.isatty()
    shown: list[status.NodeStatus] = []
    with connect() as systemd:
        while True:
            made = config.load(cluster)
            nodes = status.node_statuses(made, systemd)
            # Memory changes all the time: only a screen that is drawn anew may follow that.
            if live or [replace(node, memory=0) for node in nodes] != shown:
                shown = [replace(node, memory=0) for node in nodes]
                _show_status(made, nodes, args, clear=args.watch and live)
            if not args.watch:
                return 0 if status.cluster_state(nodes) == "running" else 1
            systemd.wait_for_change()


def _show_status(
    made: config.ClusterConfig, nodes: Sequence[status.NodeStatus], args: argparse.Namespace, clear: bool
) -> None:
    if clear:
        print("\033[H\033[J", end="")
    if args.json:
        master = next((node.node for node in nodes if node.role == "master"), None)
        output.print_json({"cluster": made.id.name, "name": made.name, "master": master,
                           "state": status.cluster_state(nodes), "nodes": [asdict(node) for node in nodes]})  # fmt: skip
    else:
        output.print_listing(status.NODE_FIELDS, [node.row() for node in nodes], args)
    sys.stdout.flush()


def do_list(args: argparse.Namespace) -> int:
    with connect() as systemd:
        rows = status.cluster_rows(systemd)
    if args.json:
        output.print_json({"clusters": rows})
        return 0
    output.print_listing(status.CLUSTER_FIELDS, rows, args)
    for row in rows:
        if "error" in row:
            print(row["error"], file=sys.stderr)
    return 0


def do_exec(args: argparse.Namespace) -> int:
    if not args.remainder:
        raise UsageError("no command is given", "gnt-vcluster exec NODE... -- COMMAND [ARGUMENT...]")
    nodes = inside.select(args.nodes, status.default_cluster(args.cluster))
    inside.check_up(*nodes)
    if len(nodes) == 1 and not args.json:
        return inside.replace(nodes[0], args.remainder)
    results = []
    for node in nodes:
        done = inside.run_captured(node, args.remainder)
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
    return inside.shell(status.find_node(args.node))


def do_logs(args: argparse.Namespace) -> int:
    options = ["--follow"] if args.follow else ["--no-pager"] if not sys.stdout.isatty() else []
    options += [f"--lines={args.lines}"] if args.lines else []
    options += ["--output=json"] if args.json else []
    return inside.journal(status.find_node(args.node), args.daemon, options)


def do_power(args: argparse.Namespace) -> int:
    cluster = status.default_cluster(args.what if args.what is None or "." not in args.what else None)
    if args.what is None or (cluster.name == args.what and config.exists(cluster)):
        if args.command != "stop" or not config.exists(cluster):
            config.load(cluster)  # what is wrong with the file must not keep a cluster from being stopped
        if args.what is not None and names.NodeId(cluster, args.what).registry_link.is_symlink():
            raise UsageError(f"{args.what} is a cluster and a node", f"systemctl {args.command} {cluster.target}, or "
                             f"{names.NodeId(cluster, args.what).target}")  # fmt: skip
        name, unit = cluster.name, cluster.target
    else:
        try:
            node = status.find_node(args.what)
        except VclusterError:
            raise VclusterError(f"there is no cluster and no node {args.what}",
                                "gnt-vcluster list and status show those there are") from None  # fmt: skip
        name, unit = node.name, node.target
    if args.dry_run:
        return _show_dry_run([f"systemctl {args.command} {unit}"], args)
    method = {"start": "StartUnit", "stop": "StopUnit", "restart": "RestartUnit"}[args.command]
    progress = _progress(args)
    with connect() as systemd, progress.step(f"{args.command} {name}"):
        for job in systemd.jobs(method, [unit]):
            if job.result != "done" and not (args.command == "stop" and "not loaded" in job.result):
                raise StepFailed(
                    f"{unit}: {args.command} ended with: {job.result}", f"look at: systemctl status '{unit}'"
                )
    if args.json:
        output.print_json({"unit": unit, "action": args.command})
    return 0


def do_scale(args: argparse.Namespace) -> int:
    cluster = status.default_cluster(args.cluster)
    if args.dry_run:
        _, _, lines = up.scale_plan(cluster, args.nodes, args.join)
        return _show_dry_run(lines, args)
    begin = time.monotonic()
    outcome = up.scale(cluster, args.nodes, up.Wishes(join=args.join, shared_key=args.shared_key), _progress(args))
    return _report(outcome, time.monotonic() - begin, args)


def do_destroy(args: argparse.Namespace) -> int:
    cluster = status.default_cluster(args.cluster)
    destroy.check_exists(cluster, args.snapshots)
    if args.dry_run:
        doomed = [one.id for one in snapshots.every(cluster)] if args.snapshots else []
        return _show_dry_run([*map(str, destroy.steps(cluster)), *(f"delete {one.directory}" for one in doomed)], args)
    if not args.yes:
        if not sys.stdin.isatty():
            raise UsageError(f"destroying {cluster.name} removes its data", "say --yes")
        if input(f"Destroy the cluster {cluster.name} with all its data ({cluster.directory})? [y/N] ").lower() != "y":
            raise VclusterError("nothing was changed")
    destroy.destroy(cluster, _progress(args), args.snapshots)
    if left := snapshots.every(cluster):
        _progress(args).say(
            f"{output.counted(len(left), 'snapshot')} of {cluster.name} kept: gnt-vcluster snapshot list"
        )
    if args.json:
        output.print_json({"cluster": cluster.name, "destroyed": True})
    return 0


def do_qa(args: argparse.Namespace) -> int:
    begin = time.monotonic()
    junit, log = (Path(name).absolute() if name else None for name in (args.junit, args.log))
    tests = runs(ganeti.version(), args.quick, args.only.split(",") if args.only else ())
    found = qa.qa(status.default_cluster(args.cluster), tests, args.remainder, args.keep, junit, log, _progress(args))
    counts = {outcome: sum(result.outcome == outcome for result in found)
              for outcome in ("passed", "failed", "not applicable", "skipped")}  # fmt: skip
    seconds = time.monotonic() - begin
    if args.json:
        output.print_json({"seconds": round(seconds), "counts": counts, "tests": [
            {"name": result.name, "description": result.description, "outcome": result.outcome,
             "seconds": round(result.seconds, 1)} for result in found]})  # fmt: skip
    else:
        print(", ".join(f"{count} {outcome}" for outcome, count in counts.items()) + f" in {seconds:.0f} s")
    return 1 if counts["failed"] else 0


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
                               _progress(args))]  # fmt: skip
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


def do_doctor(args: argparse.Namespace) -> int:
    fixes: list[doctor.Raise] = []
    with connect() as systemd:
        report = doctor.examine(systemd, args.nodes, args.instances)
        if args.dry_run:
            wanted = doctor.checked(doctor.raises(report.rows, sysctl.kept()))
            for one in wanted:
                if one.refused:
                    _progress(args).say(str(one))
            return _show_dry_run(doctor.fix_lines(wanted), args)
        if args.fix:
            fixes = doctor.fix(report)
            for one in fixes:
                _progress(args).say(str(one))
            if not fixes:
                _progress(args).say("there is nothing to raise")
            report = doctor.examine(systemd, args.nodes, args.instances)
    if args.json:
        output.print_json({**report.document(), "fixes": [asdict(one) for one in fixes]})
    else:
        output.print_listing(doctor.FIELDS, report.table(), args)
        sys.stdout.flush()
        _progress(args).say(report.summary())
    if report.failures:
        raise report.error()
    return 0


def _snapshot_of(args: argparse.Namespace, name: str) -> names.SnapshotId:
    if not names.is_snapshot_name(name):
        raise UsageError(f"{name!r} cannot name a snapshot", "use letters, digits and _.+-, at most 64")
    return status.default_cluster(args.cluster).snapshot(name)


def do_save(args: argparse.Namespace) -> int:
    snapshot = _snapshot_of(args, args.name)
    if args.dry_run:
        return _show_dry_run(save.dry_run(snapshot), args)
    begin = time.monotonic()
    saved = save.save(snapshot, args.live, _progress(args))
    seconds, about = time.monotonic() - begin, saved.snapshot.about
    if args.json:
        output.print_json({**saved.snapshot.document(), "seconds": round(seconds, 2),
                           "stood_still": round(saved.stood_still, 2)})  # fmt: skip
    else:
        stood_still = f", in which the nodes stood still for {saved.stood_still:.2f} s" if saved.stood_still else ""
        print(f"Snapshot {snapshot.name} of {snapshot.cluster.name} is saved: {output.counted(about.nodes, 'node')}, "
              f"{about.size / 2**20:.0f} MiB ({seconds:.1f} s{stood_still}).")  # fmt: skip
    return 0


def do_restore(args: argparse.Namespace) -> int:
    snapshot = _snapshot_of(args, args.name)
    keep = _snapshot_of(args, args.keep).name if args.keep else ""
    if args.dry_run:
        return _show_dry_run(restore.dry_run(snapshot, keep, not args.no_start), args)
    begin = time.monotonic()
    outcome = restore.restore(snapshot, keep, not args.no_start, _progress(args))
    seconds = time.monotonic() - begin
    if args.json:
        output.print_json({**outcome.document(), "snapshot": snapshot.name, "seconds": round(seconds, 1)})
    else:
        print(f"Cluster {snapshot.cluster.name} is what it was in {snapshot.name}: "
              f"{output.counted(len(outcome.cluster.nodes), 'node')} ({seconds:.1f} s).")  # fmt: skip
    return 0


def do_snapshots(args: argparse.Namespace) -> int:
    with files.try_lock(names.CONFIG_DIR) as nobody_works:
        if nobody_works:
            snapshots.clean()
    cluster = None if args.cluster is None else status.default_cluster(args.cluster)
    found = snapshots.every(cluster)
    if cluster and not (found or config.exists(cluster) or cluster.directory.exists()):
        raise VclusterError(f"there is no cluster {cluster.name} and no snapshot of it",
                            "gnt-vcluster list and gnt-vcluster snapshot list show those there are")  # fmt: skip
    if args.json:
        output.print_json({"snapshots": [snapshot.document() for snapshot in found]})
    else:
        output.print_listing(snapshots.FIELDS, [snapshot.row() for snapshot in found], args)
    return 0


def do_delete(args: argparse.Namespace) -> int:
    snapshot = _snapshot_of(args, args.name)
    snapshots.load(snapshot)
    if args.dry_run:
        return _show_dry_run([f"delete {snapshot.directory}"], args)
    with apply.alone(_progress(args).say):
        snapshots.clean()
        snapshots.delete(snapshots.load(snapshot).id)
    if args.json:
        output.print_json({"snapshot": snapshot.name, "cluster": snapshot.cluster.name, "deleted": True})
    return 0


SNAPSHOT_ACTIONS: dict[str, Callable[[argparse.Namespace], int]] = {
    "save": do_save, "restore": do_restore, "list": do_snapshots, "delete": do_delete,
}  # fmt: skip


def do_snapshot(args: argparse.Namespace) -> int:
    return SNAPSHOT_ACTIONS[args.action](args)


def do_run(args: argparse.Namespace) -> int:
    argv = [*args.words, *args.remainder]
    if not argv:
        raise UsageError("no command is given", "gnt-vcluster run [OPTION...] [--] COMMAND [ARGUMENT...]")
    if args.snapshot and (args.nodes or args.instances):
        raise UsageError("--nodes and --instances do not go together with --from", "a snapshot has its own")
    found = snapshots.find(args.snapshot).id if args.snapshot else None
    return throwaway.run(argv, throwaway.wishes_for(args.nodes, args.instances), found, _progress(args))


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "up": do_up, "create": do_create, "status": do_status, "list": do_list, "exec": do_exec, "shell": do_shell,
    "logs": do_logs, "start": do_power, "stop": do_power, "restart": do_power, "scale": do_scale,
    "destroy": do_destroy, "doctor": do_doctor, "qa": do_qa, "bench": do_bench,
    "snapshot": do_snapshot, "run": do_run, "sandbox": sandboxed.do_sandbox,
}  # fmt: skip


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Arguments as a namespace; what stands behind `--` is left as it is, in `remainder`."""
    # Without this, argparse would take the command for the sandbox's name.
    before = list(itertools.takewhile(lambda word: word.startswith("-"), argv))
    argv = list(argv)[len(before) :]
    behind: list[str] = []
    before = [f"--sandbox={sandbox.DEFAULT}" if word == "--sandbox" else word for word in before]
    if {"exec", "qa", "run"} & set(argv) and "--" in argv:
        at = argv.index("--")
        argv, behind = argv[:at], argv[at:]
    top = parser.build()
    args = top.parse_args([*before, *argv])
    if getattr(args, "json", False) and any(getattr(args, name, "") for name in ("output", "no_headers", "separator")):
        top.error("--json has all fields; -o, --no-headers and --separator are for tables: leave out one or the other")
    # Where a command was given before it, the `--` is the command's own.
    remainder = behind if getattr(args, "words", None) else behind[1:]
    args.remainder = remainder
    args.argv, args.behind = [*(word for word in before if not word.startswith("--sandbox=")), *argv], behind
    return args


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(sys.argv[1:] if argv is None else argv)
    if args.command is None:
        parser.build().print_help(sys.stderr)
        return 2
    logging.basicConfig(format="%(message)s", level=logging.DEBUG if args.debug else logging.WARNING)
    try:
        box, reason = sandboxed.chosen(args)
        if box:
            return sandboxed.through(box, reason, args, args.argv, args.behind)
        if os.geteuid() == 0:
            view.leave()
        result = COMMANDS[args.command](args)
        sys.stdout.flush()
        return result
    except VclusterError as err:
        if args.debug:
            logging.exception("traceback")
        print(f"gnt-vcluster: {err}", file=sys.stderr)
        return err.exit_status
    except KeyboardInterrupt:
        if hasattr(args, "dry_run"):
            print("gnt-vcluster: interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    except OSError as err:
        if args.debug:
            logging.exception("traceback")
        if not isinstance(err, BrokenPipeError):
            print(f"gnt-vcluster: {err}", file=sys.stderr)
        # What could not be written would be tried again at the end, with a message of Python's.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141 if isinstance(err, BrokenPipeError) else 1
