# SPDX-License-Identifier: BSD-2-Clause
"""What Ganeti's QA suite prints, as results."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from xml.etree import ElementTree


@dataclass
class TestResult:
    """One test of the suite."""

    name: str
    description: str
    outcome: str  #: passed, failed, "not applicable" (it ran no command) or skipped
    seconds: float = 0.0
    output: list[str] = field(default_factory=list)


_START = re.compile(r"<<<< \S+ \S+ start \[(\w+)\] (.*?)(?: -*)?$")
_END = re.compile(r"---- (PASSED|FAILED) \[(\w+)\] ")
_TIME = re.compile(r">>>> \S+ \S+ time=(\d+):(\d+):([\d.]+) \[(\w+)\]")
_SKIP = re.compile(r"\*\*\*\* \S+ \S+ skipping (?:\[(\w+)\] )?(.*), test\(s\) .* disabled")


def results(lines: Iterable[str]) -> Iterator[TestResult]:
    """The tests in the suite's output, each when it has ended."""
    present: TestResult | None = None
    ran = False
    for line in lines:
        if match := _START.match(line):
            present, ran = TestResult(match[1], match[2], ""), False
        elif match := _SKIP.match(line):
            yield TestResult(match[1] or "", match[2], "skipped")
        if present is None:
            continue
        present.output.append(line)
        ran = ran or line.startswith(("Command: ", "GET ", "POST ", "PUT ", "DELETE ")) or "ssh -o" in line
        if match := _END.match(line):
            present.outcome = "failed" if match[1] == "FAILED" else "passed" if ran else "not applicable"
        elif (match := _TIME.match(line)) and match[4] == present.name:
            present.seconds = int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3])
            yield present
            present = None


def merge(runs: Iterable[Iterable[TestResult]]) -> list[TestResult]:
    """The results of several runs. What one has skipped and another has not is not skipped."""
    everything = [result for run in runs for result in run]
    ran = {result.name for result in everything if result.outcome != "skipped"}
    skipped = {(result.name, result.description): result for result in everything
               if result.outcome == "skipped" and result.name not in ran}  # fmt: skip
    return [*(result for result in everything if result.outcome != "skipped"), *skipped.values()]


def junit(results: Iterable[TestResult]) -> str:
    """The results as JUnit's XML."""
    results = list(results)
    root = ElementTree.Element(
        "testsuite", name="ganeti-qa", tests=str(len(results)),
        failures=str(sum(result.outcome == "failed" for result in results)),
        skipped=str(sum(result.outcome in ("skipped", "not applicable") for result in results)),
    )  # fmt: skip
    for result in results:
        case = ElementTree.SubElement(root, "testcase", classname="ganeti-qa", name=f"{result.name} {result.description}",
                                      time=f"{result.seconds:.1f}")  # fmt: skip
        if result.outcome == "failed":
            ElementTree.SubElement(case, "failure").text = "\n".join(result.output[-100:])
        elif result.outcome != "passed":
            ElementTree.SubElement(case, "skipped", message=result.outcome)
    return ElementTree.tostring(root, encoding="unicode") + "\n"
