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
from dataclasses import dataclass, field
from pathlib import Path

from ganeti_vc.base import files
from ganeti_vc.base.constants import GANETI_PYTHON
from ganeti_vc.base.errors import UsageError, VclusterError
from ganeti_vc.base.process import BASE_ENVIRONMENT
from ganeti_vc.base.progress import Progress
from ganeti_vc.base.signals import interrupted_by_sigterm
from ganeti_vc.machine import config_files
from ganeti_vc.machine.systemd import connect
from ganeti_vc.model import config_text
from ganeti_vc.model.config import ClusterConfig, parse
from ganeti_vc.model.names import GANETI_QA, ClusterId
from ganeti_vc.model.options import UpOptions
from ganeti_vc.operations import bring_up, declare, destroy
from ganeti_vc.operations.qa.results import TestResult, junit, merge, results
from ganeti_vc.operations.qa.suite import XEN_FILE, configuration
from ganeti_vc.reconcile import locking

BURNIN = Path(GANETI_PYTHON) / "burnin"
#: Ganeti 3.1's suite writes a log of its own where the machine's Ganeti has its own.
IN_NAMESPACE = ("unshare", "--mount", "sh", "-c", 'mount --bind "$0" /var/log/ganeti && exec "$@"')
NODES = 4  #: evacuation and re-creation need three; one more for what is taken away


def _make(cluster: ClusterId, progress: Progress) -> ClusterConfig:
    """Make a cluster that is not initialised. Its remote API is on the first node, where the suite looks for it."""
    with locking.exclusive(progress.say), connect() as systemd:
        new, text = declare.new_config(cluster, UpOptions(nodes=NODES))
        text = config_text.replace_key(text, "daemons", "rapi", f"-b {new.nodes[0].address}")
        new = parse(cluster, text)
        declare.write_config(cluster, text)
        bring_up.BringUp(new, systemd, progress).surroundings_and_start()
        for node in new.nodes:
            (node.id.rootdir / "srv/ssh").mkdir(mode=0o700)
            (node.id.rootdir / "boot").mkdir()
            (node.id.rootdir / XEN_FILE.lstrip("/")).touch()
    return new


def _run(
    config: ClusterConfig,
    tests: Mapping[str, bool],
    options: Sequence[str],
    log: Path | None,
    running: list[subprocess.Popen[str]],
) -> Iterator[TestResult]:
    """Run the suite, and yield each result. The process joins `running`; what it prints goes to the log, test by test.

    Raises VclusterError when the suite fails although no test did.
    """
    with tempfile.TemporaryDirectory(prefix="ganeti-qa-") as directory:
        work = Path(directory)
        shutil.copytree(GANETI_QA, work / "qa")
        (work / "tools").mkdir()
        shutil.copy(BURNIN, work / "tools")
        (work / "config.json").write_text(json.dumps(configuration(config, tests), indent=2))
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
            raise VclusterError(
                f"the QA suite ended with {process.returncode}: {last}", "--log FILE keeps all it prints"
            )


def check(only: Sequence[str]) -> None:
    """Raise VclusterError unless the suite is installed and knows these switches."""
    if not GANETI_QA.is_dir():
        raise VclusterError(
            f"Ganeti's QA suite is not installed: {GANETI_QA} is missing", "apt-get install ganeti-testsuite"
        )
    suite = "".join(path.read_text() for path in GANETI_QA.glob("*.py"))
    for name in only:
        if f'"{name}"' not in suite:
            raise UsageError(f"Ganeti's QA suite has no switch {name}", f"grep -h TestEnabled {GANETI_QA}/*.py")


@dataclass
class QaRun:
    """The suite on several clusters at the same time: a cluster for each of the `tests`."""

    cluster: ClusterId  #: the first; the second is called CLUSTER2
    tests: Sequence[Mapping[str, bool]]  #: the suite's switches, for each cluster
    options: Sequence[str]  #: for the suite
    keep: bool  #: remove no cluster
    junit: Path | None
    log: Path | None
    progress: Progress
    _processes: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def clusters(self) -> list[ClusterId]:
        """All clusters."""
        numbers = range(1, len(self.tests) + 1)
        return [ClusterId(self.cluster.name + (str(number) if number > 1 else "")) for number in numbers]

    def run(self) -> list[TestResult]:
        """Make the clusters, run the suite on them, and remove those on which nothing failed.

        An interruption removes all. Raises VclusterError when a cluster exists already, or the suite itself fails.
        """
        for cluster in self.clusters:
            declare.check_absent(cluster, "the QA suite")
        for path in filter(None, (self.junit, self.log)):
            files.write_in_place(path, "")  # now rather than after twenty minutes
        with interrupted_by_sigterm():
            try:
                apart = self._run_all()
            except KeyboardInterrupt:
                self._remove_interrupted()
                raise
        together = merge(apart)
        if self.junit:
            files.write_in_place(self.junit, junit(together))
        for cluster, results_of_it in zip(self.clusters, apart, strict=True):
            self._remove(cluster, results_of_it)
        return together

    def _run_all(self) -> list[list[TestResult]]:
        configs = [_make(cluster, self.progress) for cluster in self.clusters]
        with ThreadPoolExecutor() as pool:
            try:
                return list(pool.map(self._run_on, configs, self.tests))
            except KeyboardInterrupt:
                for process in self._processes:
                    process.terminate()
                raise

    def _run_on(self, config: ClusterConfig, switches: Mapping[str, bool]) -> list[TestResult]:
        """Run the suite on one cluster, and say how each test ends."""
        done = []
        for result in _run(config, switches, self.options, self.log, self._processes):
            done.append(result)
            if result.outcome != "skipped":
                self.progress.say(f"{result.outcome:14} {result.seconds:6.1f} s  {result.name} {result.description}")
            if result.outcome == "failed":
                self.progress.say("\n".join(result.output[-30:]))
        return done

    def _remove(self, cluster: ClusterId, done: Sequence[TestResult]) -> None:
        if self.keep or any(result.outcome == "failed" for result in done):
            name = cluster.name
            self.progress.say(f"The cluster {name} is left for you to look at: gnt-vcluster destroy {name}")
        else:
            destroy.destroy(cluster, self.progress)

    def _remove_interrupted(self) -> None:
        for cluster in self.clusters:
            if not self.keep and config_files.exists(cluster):
                destroy.destroy(cluster, self.progress)
