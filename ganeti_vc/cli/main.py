# SPDX-License-Identifier: BSD-2-Clause
"""gnt-vcluster: the edge of the program. Arguments in; results, one-line errors and a status out."""

from __future__ import annotations

import argparse
import itertools
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from ganeti_vc.base import progress
from ganeti_vc.base.errors import StepFailed, UsageError, VclusterError
from ganeti_vc.cli import output, parser, sandbox_commands, snapshot_commands
from ganeti_vc.machine import config_files, snapshots
from ganeti_vc.machine.systemd import connect
from ganeti_vc.model import config, names
from ganeti_vc.model.options import UpOptions
from ganeti_vc.node import view
from ganeti_vc.operations import bring_up, declare, destroy, lookup, on_node, scale, status, temporary
from ganeti_vc.sandbox import sandboxes

# Most commands are over sooner than all modules are imported: those of a single command, in it.


def _wishes(args: argparse.Namespace) -> UpOptions:
    return UpOptions(
        args.nodes,
        args.instances,
        args.domain,
        args.network,
        getattr(args, "join", "auto"),
        getattr(args, "shared_key", True),
        not getattr(args, "no_verify", False),
    )


def _report(outcome: bring_up.Outcome, seconds: float, args: argparse.Namespace) -> int:
    errors = outcome.verify_errors
    if args.json:
        output.print_json({**outcome.document(), "seconds": round(seconds, 1)})
    elif not errors:
        cluster = outcome.config.id.name
        master = outcome.master.name if outcome.master else "none"
        nodes = progress.counted(len(outcome.config.nodes), "node")
        what = "is up" if outcome.changes else "is up already, nothing was changed"
        print(f"Cluster {cluster} {what}: {nodes}, master {master} ({seconds:.0f} s).")
        if args.command == "up" and outcome.changes:
            print(f"""
Try:
  {progress.program()} exec {master_option(outcome)}master -- gnt-node list
  {progress.program()} shell {outcome.config.nodes[0].id.name}
  {progress.program()} status {cluster}
  {progress.program()} logs {outcome.config.nodes[0].id.name} -f""")
    if errors:
        raise StepFailed(f"gnt-cluster verify finds: {errors[0]}" + (f" and {len(errors) - 1} more" if errors[1:] else ""),
                         f"look at: gnt-vcluster exec {master_option(outcome)}master -- gnt-cluster verify")  # fmt: skip
    return 0


def master_option(outcome: bring_up.Outcome) -> str:
    name = outcome.config.id.name
    return "" if name == "default" else f"-c {name} "


def do_up(args: argparse.Namespace) -> int:
    cluster = lookup.default_cluster(args.cluster)
    if args.dry_run:
        return output.print_dry_run(bring_up.dry_run(cluster, _wishes(args)), args)
    begin = time.monotonic()
    outcome = bring_up.up(cluster, _wishes(args), output.progress(args))
    return _report(outcome, time.monotonic() - begin, args)


def do_create(args: argparse.Namespace) -> int:
    cluster = lookup.default_cluster(args.cluster)
    made = declare.create(cluster, _wishes(args), args.dry_run)
    if args.dry_run:
        return output.print_dry_run([f"write {cluster.config_file}"], args)
    if args.json:
        output.print_json({"cluster": cluster.name, "file": str(cluster.config_file), "nodes": len(made.nodes)})
    else:
        print(f"{cluster.config_file} is written. Next: gnt-vcluster up {cluster.name}")
    return 0


def do_status(args: argparse.Namespace) -> int:
    cluster = lookup.default_cluster(args.cluster)
    live = not args.json and sys.stdout.isatty()
    shown: list[status.NodeStatus] = []
    with connect() as systemd:
        while True:
            made = config_files.load_present(cluster)
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
    return on_node.shell(lookup.find_node(args.node))


def do_logs(args: argparse.Namespace) -> int:
    options = ["--follow"] if args.follow else ["--no-pager"] if not sys.stdout.isatty() else []
    options += [f"--lines={args.lines}"] if args.lines else []
    options += ["--output=json"] if args.json else []
    return on_node.journal(lookup.find_node(args.node), args.daemon, options)


def do_power(args: argparse.Namespace) -> int:
    cluster = lookup.default_cluster(args.what if args.what is None or "." not in args.what else None)
    if args.what is None or (cluster.name == args.what and config_files.exists(cluster)):
        if args.command != "stop" or not config_files.exists(cluster):
            config_files.load(cluster)  # what is wrong with the file must not keep a cluster from being stopped
        if args.what is not None and names.NodeId(cluster, args.what).registry_link.is_symlink():
            raise UsageError(f"{args.what} is a cluster and a node", f"systemctl {args.command} {cluster.target}, or "
                             f"{names.NodeId(cluster, args.what).target}")  # fmt: skip
        name, unit, switch = cluster.name, cluster.target, cluster.off_service
    else:
        try:
            node = lookup.find_node(args.what)
        except VclusterError:
            raise VclusterError(f"there is no cluster and no node {args.what}",
                                "gnt-vcluster list and status show those there are") from None  # fmt: skip
        name, unit, switch = node.name, node.target, node.off_service
    if args.dry_run:
        return output.print_dry_run([f"systemctl {args.command} {unit}"], args)
    method = {"start": "StartUnit", "stop": "StopUnit", "restart": "RestartUnit"}[args.command]
    progress = output.progress(args)
    with connect() as systemd, progress.step(f"{args.command} {name}"):
        if args.command != "start":
            systemd.mark_started(switch)  # what waits at a stop, if a start has not come that far
        for job in systemd.jobs(method, [unit]):
            if job.result != "done" and not (args.command == "stop" and job.no_such_unit):
                raise StepFailed(
                    f"{unit}: {args.command} ended with: {job.result}", f"look at: systemctl status '{unit}'"
                )
    if args.json:
        output.print_json({"unit": unit, "action": args.command})
    return 0


def do_scale(args: argparse.Namespace) -> int:
    cluster = lookup.default_cluster(args.cluster)
    if args.dry_run:
        return output.print_dry_run(scale.dry_run(cluster, args.nodes, UpOptions(join=args.join)), args)
    begin = time.monotonic()
    outcome = scale.scale(
        cluster, args.nodes, UpOptions(join=args.join, shared_key=args.shared_key), output.progress(args)
    )
    return _report(outcome, time.monotonic() - begin, args)


def do_destroy(args: argparse.Namespace) -> int:
    cluster = lookup.default_cluster(args.cluster)
    destroy.check_exists(cluster, args.snapshots)
    if args.dry_run:
        doomed = [one.id for one in snapshots.all_snapshots(cluster)] if args.snapshots else []
        return output.print_dry_run(
            [*map(str, destroy.steps(cluster)), *(f"delete {one.directory}" for one in doomed)], args
        )
    if not args.yes:
        if not sys.stdin.isatty():
            raise UsageError(f"destroying {cluster.name} removes its data", "say --yes")
        if input(f"Destroy the cluster {cluster.name} with all its data ({cluster.directory})? [y/N] ").lower() != "y":
            raise VclusterError("nothing was changed")
    destroy.destroy(cluster, output.progress(args), args.snapshots)
    if left := snapshots.all_snapshots(cluster):
        output.progress(args).say(
            f"{progress.counted(len(left), 'snapshot')} of {cluster.name} kept: gnt-vcluster snapshot list"
        )
    if args.json:
        output.print_json({"cluster": cluster.name, "destroyed": True})
    return 0


def do_qa(args: argparse.Namespace) -> int:
    from ganeti_vc.machine import ganeti
    from ganeti_vc.operations.qa import runner, suite

    begin = time.monotonic()
    junit, log = (Path(name).absolute() if name else None for name in (args.junit, args.log))
    only = args.only.split(",") if args.only else ()
    runner.check(only)
    tests = suite.runs(ganeti.version(), args.quick, only)
    found = runner.qa(
        lookup.default_cluster(args.cluster), tests, args.remainder, args.keep, junit, log, output.progress(args)
    )
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


def do_doctor(args: argparse.Namespace) -> int:
    from ganeti_vc.machine import sysctl
    from ganeti_vc.operations.doctor import examine, raising

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


def do_bench(args: argparse.Namespace) -> int:
    from ganeti_vc.cli import bench_commands

    return bench_commands.do_bench(args)


def do_run(args: argparse.Namespace) -> int:
    argv = [*args.words, *args.remainder]
    if not argv:
        raise UsageError("no command is given", "gnt-vcluster run [OPTION...] [--] COMMAND [ARGUMENT...]")
    if args.snapshot and (args.nodes or args.instances):
        raise UsageError("--nodes and --instances do not go together with --from", "a snapshot has its own")
    found = snapshots.find(args.snapshot).id if args.snapshot else None
    return temporary.run(argv, temporary.wishes_for(args.nodes, args.instances), found, output.progress(args))


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "up": do_up, "create": do_create, "status": do_status, "list": do_list, "exec": do_exec, "shell": do_shell,
    "logs": do_logs, "start": do_power, "stop": do_power, "restart": do_power, "scale": do_scale,
    "destroy": do_destroy, "doctor": do_doctor, "qa": do_qa, "bench": do_bench,
    "snapshot": snapshot_commands.do_snapshot, "run": do_run, "sandbox": sandbox_commands.do_sandbox,
}  # fmt: skip


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Arguments as a namespace; what stands behind `--` is left as it is, in `remainder`."""
    # Without this, argparse would take the command for the sandbox's name.
    before = list(itertools.takewhile(lambda word: word.startswith("-"), argv))
    argv = list(argv)[len(before) :]
    behind: list[str] = []
    before = [f"--sandbox={sandboxes.DEFAULT}" if word == "--sandbox" else word for word in before]
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
        box, reason = sandbox_commands.chosen(args)
        if box:
            return sandbox_commands.run_in_sandbox(box, reason, args, args.argv, args.behind)
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
            what = f"{err.filename}: {err.strerror}" if err.filename else str(err)
            remedy = " (look at who may read and write it)" if isinstance(err, PermissionError) else ""
            print(f"gnt-vcluster: {what}{remedy}", file=sys.stderr)
        # What could not be written would be tried again at the end, with a message of Python's.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141 if isinstance(err, BrokenPipeError) else 1
