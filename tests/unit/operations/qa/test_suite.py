# SPDX-License-Identifier: BSD-2-Clause
"""Reading what Ganeti's QA suite prints."""

from __future__ import annotations

from xml.etree import ElementTree

from ganeti_vc.model import config
from ganeti_vc.model.names import ClusterId
from ganeti_vc.operations.qa import results, suite

OUTPUT = """\
SSH command for primary node: ssh -oEscapeChar=none

<<<< 2026-11-21 14:12:51.261993 start [TestNodeList] gnt-node list -------
Command: ssh node1.qa 'gnt-node list'
---- PASSED [TestNodeList] gnt-node list -------------------------------
>>>> 2026-11-21 14:12:55.261993 time=0:01:04.500000 [TestNodeList] gnt-node list
**** 2026-11-21 14:12:56.000000 skipping [TestBurnin] Burnin, test(s) cluster-burnin disabled
<<<< 2026-11-21 14:13:51.261993 start [TestReservedLvs] gnt-cluster reserved lvs
---- PASSED [TestReservedLvs] gnt-cluster reserved lvs -----------------
>>>> 2026-11-21 14:13:51.261993 time=0:00:00.000100 [TestReservedLvs] gnt-cluster reserved lvs
<<<< 2026-11-21 14:14:51.261993 start [TestVerify] gnt-cluster verify
Command: ssh node1.qa 'gnt-cluster verify'
ERROR: something
---- FAILED [TestVerify] gnt-cluster verify: Command failed ------------
>>>> 2026-11-21 14:14:52.261993 time=0:00:01.000000 [TestVerify] gnt-cluster verify
""".splitlines()


def test_results_of_the_suite() -> None:
    found = list(results.results(OUTPUT))
    assert [(result.name, result.outcome, round(result.seconds, 1)) for result in found] == [
        ("TestNodeList", "passed", 64.5), ("TestBurnin", "skipped", 0.0),
        ("TestReservedLvs", "not applicable", 0.0), ("TestVerify", "failed", 1.0)]  # fmt: skip
    assert "ERROR: something" in found[-1].output and found[0].description == "gnt-node list"


def test_what_one_run_skips_and_another_runs_is_not_skipped() -> None:
    def result(name: str, outcome: str) -> results.TestResult:
        return results.TestResult(name, name.lower(), outcome)

    first = [result("A", "passed"), result("B", "skipped"), result("C", "skipped")]
    second = [result("A", "passed"), result("B", "failed"), result("C", "skipped"), result("D", "skipped")]
    found = results.merge([first, second])
    assert [(one.name, one.outcome) for one in found] == [
        ("A", "passed"), ("A", "passed"), ("B", "failed"), ("C", "skipped"), ("D", "skipped")]  # fmt: skip


def test_junit_counts_and_shows_failures() -> None:
    root = ElementTree.fromstring(results.junit(results.results(OUTPUT)))
    assert (root.get("tests"), root.get("failures"), root.get("skipped")) == ("4", "1", "2")
    assert "ERROR: something" in (root.findtext("testcase/failure") or "")


def test_every_switch_that_is_off_has_a_reason() -> None:
    made = config.parse(ClusterId("qa"), "[cluster]\nnodes = 4\ndomain = qa\n")
    first, second = (suite.configuration(made, tests)["tests"] for tests in suite.runs("3.1", quick=False))
    assert isinstance(first, dict) and isinstance(second, dict)
    off = {name for name, on in first.items() if not on}
    apart = {*suite.WITH_DISKS, *suite.WITH_DISKS_31, *suite.SECOND_CLUSTER_TESTS}
    assert off == {*suite.NOT_RUN, *apart} and apart <= {name for name, on in second.items() if on}
    assert all(suite.NOT_RUN.values())
    (quick,) = suite.runs("3.0", quick=True)
    assert {name for name, on in quick.items() if on} >= set(suite.QUICK) and not set(suite.QUICK) & set(suite.NOT_RUN)
