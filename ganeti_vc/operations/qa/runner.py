# SPDX-License-Identifier: BSD-2-Clause
"""Ganeti's own QA suite (package ganeti-testsuite) on clusters made for it, from `gnt-cluster init` to `destroy`.

In the suite's normal mode: it logs in to the nodes by ssh and is not told that they are virtual. It
runs as shipped, from a copy, because it looks for a tool beside its own directory. Its runs, which
are of different tests, go side by side, each on a cluster of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ganeti_vc.base import files
from ganeti_vc.base.constants import GANETI_PYTHON
from ganeti_vc.base.errors import UsageError, VclusterError
from ganeti_vc.base.process import BASE_ENVIRONMENT
from ganeti_vc.base.progress import Progress
from ganeti_vc.base.signals import interrupted_by_sigterm
from ganeti_vc.machine import config_files
from ganeti_vc.machine.systemd import connect
from ganeti_vc.model import config, config_text, options
from ganeti_vc.model.config import ClusterConfig
from ganeti_vc.model.names import GANETI_QA, ClusterId
from ganeti_vc.operations import bring_up, declare, destroy
from ganeti_vc.operations.qa.results import TestResult, junit, merge, results
from ganeti_vc.operations.qa.suite import XEN_FILE, configuration
from ganeti_vc.reconcile import locking

BURNIN = Path(GANETI_PYTHON) / "burnin"
#: Ganeti 3.1's suite writes a log of its own where the machine's Ganeti has its own.
IN_NAMESPACE = ("unshare", "--mount", "sh", "-c", 'mount --bind "$0" /var/log/ganeti && exec "$@"')
NODES = 4  #: evacuation and re-creation need three; one more for what is taken away


def _make(cluster: ClusterId, progress: Progress) -> ClusterConfig:
    """A cluster that is there and not initialised. Its remote API is on the first node, where the suite looks for it."""
    with locking.exclusive(progress.say), connect() as systemd:
        made, text = declare.new_config(cluster, options.UpOptions(nodes=NODES))
        text = config_text.replace_key(text, "daemons", "rapi", f"-b {made.nodes[0].address}")
        made = config.parse(cluster, text)
        declare.write_config(cluster, text)
        bring_up.BringUp(made, systemd, progress).surroundings_and_start()
        for node in made.nodes:
            (node.id.rootdir / "srv/ssh").mkdir(mode=0o700)
            (node.id.rootdir / "boot").mkdir()
            (node.id.rootdir / XEN_FILE.lstrip("/")).touch()
    return made


def _run(
    made: ClusterConfig,
    tests: Mapping[str, bool],
    options: Sequence[str],
    log: Path | None,
    running: list[subprocess.Popen[str]],
) -> Iterator[TestResult]:
    """Run the suite, which is one of those `running` then. What it prints goes to the log a test at a time.

    Raises VclusterError when it ends with something else than its tests' results.
    """
    with tempfile.TemporaryDirectory(prefix="ganeti-qa-") as directory:
        work = Path(directory)
        shutil.copytree(GANETI_QA, work / "qa")
        (work / "tools").mkdir()
        shutil.copy(BURNIN, work / "tools")
        (work / "config.json").write_text(json.dumps(configuration(made, tests), indent=2))
        with (
            open(log or os.devnull, "a", buffering=1 << 20) as copy,
            subprocess.Popen(
                [*IN_NAMESPACE, str(work), sys.executable, "-u", "ganeti-qa.py", "--yes-do-it", *options, str(work / "config.json")],
                cwd=work / "qa",
                env={**BASE_ENVIRONMENT, "PYTHONPATH": f"{work}:{GANETI_PYTHON}"},
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
            ) as process,
        ):  # fmt: skip
            running.append(process)
            last = ""

            def lines() -> Iterator[str]:
                nonlocal last
                assert process.stdout
                for line in process.stdout:
                    copy.write(line)
                    last = line.rstrip("\n")
                    yield last

            failed = False
            for result in results(lines()):
                copy.flush()
                failed = failed or result.outcome == "failed"
                yield result
        if process.returncode and not failed:
            raise VclusterError(f"the QA suite ended with {process.returncode}: {last}",
                                "--log FILE keeps all it prints")  # fmt: skip


def check(only: Sequence[str]) -> None:
    """That the suite is here and knows these switches. Raises VclusterError."""
    if not GANETI_QA.is_dir():
        raise VclusterError(
            f"Ganeti's QA suite is not installed: {GANETI_QA} is missing", "apt-get install ganeti-testsuite"
        )
    suite = "".join(path.read_text() for path in GANETI_QA.glob("*.py"))
    for name in only:
        if f'"{name}"' not in suite:
            raise UsageError(f"Ganeti's QA suite has no switch {name}", f"grep -h TestEnabled {GANETI_QA}/*.py")


def qa(
    cluster: ClusterId,
    tests: Sequence[Mapping[str, bool]],
    options: Sequence[str],
    keep: bool,
    junit_file: Path | None,
    log: Path | None,
    progress: Progress,
) -> list[TestResult]:
    """Make a cluster for each of the `tests`, the second one called CLUSTER2, run the suite on all of them at the same
    time, and remove those again on which nothing failed, unless `keep` is set. An interruption removes all."""
    for path in filter(None, (junit_file, log)):
        files.write(path, "")  # rather now than after twenty minutes
    clusters = [ClusterId(cluster.name + (str(number) if number > 1 else "")) for number in range(1, len(tests) + 1)]
    for one in clusters:
        declare.check_absent(one, "the QA suite")
    running: list[subprocess.Popen[str]] = []

    def run(made: ClusterConfig, switches: Mapping[str, bool]) -> list[TestResult]:
        found = []
        for result in _run(made, switches, options, log, running):
            found.append(result)
            if result.outcome != "skipped":
                progress.say(f"{result.outcome:14} {result.seconds:6.1f} s  {result.name} {result.description}")
            if result.outcome == "failed":
                progress.say("\n".join(result.output[-30:]))
        return found

    def run_all() -> list[list[TestResult]]:
        made = [_make(one, progress) for one in clusters]
        with ThreadPoolExecutor() as pool:
            try:
                return list(pool.map(run, made, tests))
            except KeyboardInterrupt:
                for process in running:
                    process.terminate()
                raise

    with interrupted_by_sigterm():
        try:
            apart = run_all()
        except KeyboardInterrupt:
            for one in clusters:
                if not keep and config_files.exists(one):
                    destroy.destroy(one, progress)
            raise
    found = merge(apart)
    if junit_file:
        files.write(junit_file, junit(found))
    for one, its in zip(clusters, apart, strict=True):
        if keep or any(result.outcome == "failed" for result in its):
            progress.say(f"The cluster {one.name} is left for you to look at: gnt-vcluster destroy {one.name}")
        else:
            destroy.destroy(one, progress)
    return found
