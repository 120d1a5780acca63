# SPDX-License-Identifier: BSD-2-Clause
"""What the tests share: the package, and booted machines to install it on."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.support.fingerprint import fingerprint
from tests.support.machine import RELEASES, Machine, booted

ROOT = Path(__file__).resolve().parent.parent


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "release" in metafunc.fixturenames:
        wanted = os.environ.get("RELEASES", " ".join(RELEASES)).split()
        metafunc.parametrize("release", wanted, scope="module")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With a test that fails, show the journals of the machines that it used."""
    report = yield
    if report.when == "call" and report.failed:
        for name, value in getattr(item, "funcargs", {}).items():
            if callable(journal := getattr(value, "journal", None)):
                report.sections.append((f"journal of {name}", journal()))
    return report


@pytest.fixture(scope="session")
def deb() -> Path:
    """The package as built by `make deb`."""
    found = sorted((ROOT / "dist").glob("ganeti-vcluster_*_all.deb"))
    assert found, "make deb comes first"
    return found[-1]


@pytest.fixture(scope="module")
def bare(release: str) -> Iterator[Machine]:
    """A booted machine without the package."""
    with booted(release) as machine:
        yield machine


@pytest.fixture(scope="module")
def machine(bare: Machine, deb: Path) -> Machine:
    """A booted machine with the package installed, and no cluster."""
    bare.install(deb)
    return bare


@pytest.fixture(scope="module")
def cluster(machine: Machine) -> Machine:
    """A machine on which `gnt-vcluster up` made the default cluster of three nodes."""
    machine.run("gnt-vcluster", "up")
    return machine


@pytest.fixture(scope="module")
def untouched(machine: Machine) -> str:
    """What the machine looks like with the package and without a cluster."""
    return fingerprint(machine)
