# SPDX-License-Identifier: BSD-2-Clause
"""Can the tests of test_030_rows.py fail? Breaks the feature of each before its test, and wants the test to notice.

    PYTHONPATH=. RELEASES=bookworm .venv/bin/pytest -p tests.support.mutations tests/system/test_030_rows.py

A plugin for pytest: a test fails here if it passes with its feature broken. Afterwards everything is repaired, as the
rows share a cluster.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.machine import Machine

DATA = "/var/lib/ganeti-vcluster/default"
NODE1, NODE2 = (f"{DATA}/node{number}.example.com" for number in (1, 2))
TOOLS, MODULES, OS = "/usr/lib/ganeti-vcluster", "/usr/lib/python3/dist-packages/ganeti_vc", "/usr/share/ganeti/os"
RESTART = "systemctl restart ganeti-vcluster@default.target"


def without(program: str) -> str:
    return f"printf '#!/bin/sh\\nexit 0\\n' >{TOOLS}/{program}"


def no_view_of(directory: str) -> str:
    return f"""sed -i '\\|("{directory}", "|d' {MODULES}/node/view.py && systemctl restart ganeti-vcluster-forkserver && {RESTART}"""


#: By test: what breaks its feature.
BREAKS = {
    "test_the_example_of_the_documentation": f"mv {OS}/dummy /root/",
    "test_disk_operations": f"for f in {DATA}/*/etc/ganeti/file-storage-paths; do : >$f; done",
    "test_disk_query": no_view_of("srv"),
    "test_file_storage": no_view_of("srv"),
    "test_hypervisor_operations": f"chattr +i {NODE2}/var/run/ganeti/fake-hypervisor || "
    f"mount --bind -o ro {NODE2}/var/run/ganeti/fake-hypervisor {NODE2}/var/run/ganeti/fake-hypervisor",
    "test_instance_networking": "ip link del gnt-default",
    "test_instance_os_operations": f"printf '#!/bin/sh\\nexit 1\\n' >{OS}/dummy/script",
    "test_node_networking": f"sed -i 's/^RAPI_ARGS=.*/RAPI_ARGS=\"-b 127.0.0.1\"/' {DATA}/node*/etc/default/ganeti",
    "test_master_failover": f"printf '#!/bin/sh\\nexit 1\\n' >{TOOLS}/is-master",
    "test_file_upload": "systemctl stop ganeti-vcluster-sshd@default",
    "test_node_oob": without("oob"),
    "test_epo": without("oob"),
    "test_powercycle": without("node-systemctl"),
    "test_hooks": no_view_of("var/lib/ganeti"),
    "test_os_discovery_is_per_node": no_view_of("srv"),
    "test_iallocator": "mv /usr/lib/ganeti/iallocators/hail /root/",
    "test_export_and_import_on_any_node": f"sed -i 's/for other in _others(rootdir)/for other in ()/' {MODULES}/node/view.py && "
    f"systemctl restart ganeti-vcluster-forkserver && {RESTART}",
    "test_node_information": no_view_of("proc/meminfo"),
    "test_memory_limits_what_hail_places": no_view_of("proc/meminfo"),
    "test_rapi": f": >{NODE1}/var/lib/ganeti/rapi/users; systemctl restart ganeti-rapi@node1.example.com",
    "test_confd_mond_and_the_rest_answer_on_their_own_address": f"sed -i 's/^MOND_ARGS=.*/MOND_ARGS=\"\"/' {NODE1}/etc/default/ganeti; "
    "systemctl restart --no-block ganeti-mond@node1.example.com",
    "test_watcher": f"printf '#!/bin/sh\\nexit 1\\n' >{TOOLS}/watcher-wanted",
    "test_log_rotation": "mv /etc/logrotate.d/ganeti-vcluster /root/",
    "test_node_states_and_jobs": "systemctl stop ganeti-luxid@node1.example.com",
    "test_htools": "mv /usr/bin/hbal /root/",
}
SAVE = f"""
mkdir -p /root/saved
cp -a {TOOLS} /root/saved/tools; cp -a {MODULES} /root/saved/modules; cp -a {OS} /root/saved/os
cp -a {NODE1}/var/lib/ganeti/rapi/users /root/saved/users
"""
REPAIR = f"""
chattr -i {NODE2}/var/run/ganeti/fake-hypervisor 2>/dev/null; umount {NODE2}/var/run/ganeti/fake-hypervisor 2>/dev/null
cp -a /root/saved/tools/. {TOOLS}/; cp -a /root/saved/modules/. {MODULES}/; cp -a /root/saved/os/. {OS}/
cp -a /root/saved/users {NODE1}/var/lib/ganeti/rapi/users
[ ! -e /root/hail ] || mv /root/hail /usr/lib/ganeti/iallocators/
[ ! -e /root/hbal ] || mv /root/hbal /usr/bin/
[ ! -e /root/ganeti-vcluster ] || mv /root/ganeti-vcluster /etc/logrotate.d/
systemctl reload ganeti-vcluster && systemctl restart ganeti-vcluster-forkserver && {RESTART} && gnt-vcluster up
for node in 1 2 3 4; do gnt-vcluster exec master -- gnt-node modify -f --node-powered=yes -O no node$node.example.com; done
[ "$(gnt-vcluster exec master -- gnt-cluster getmaster)" = node1.example.com ] ||
  gnt-vcluster exec node1.example.com -- gnt-cluster master-failover
exit 0
"""


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: Any) -> Iterator[None]:
    machine: Machine = pyfuncitem.funcargs["four"]
    machine.sh(f"[ -e /root/saved ] || {{ {SAVE} }}")
    machine.sh(BREAKS[pyfuncitem.originalname])
    try:
        yield
    except Exception as err:  # whatever a test does to say that something is wrong
        print(f"NOTICED {pyfuncitem.name}: {' '.join(str(err).split())[:150]}")
    else:
        pytest.fail("it does not notice", pytrace=False)
    finally:
        machine.sh(REPAIR)
