# SPDX-License-Identifier: BSD-2-Clause
"""Real Ganeti clusters of virtual nodes on one machine, under systemd.

The packages, from the user inwards. Each imports only from those that its line in tests/unit/test_layers.py names:

    cli         the command line: arguments in, text and an exit status out
    operations  a module for each verb: up, scale, destroy, snapshot save and restore, bench, qa, doctor
    reconcile   declared and observed state in, steps out, and the steps done; the manager
    sandbox     a private system for clusters; knows nothing of clusters
    machine     a module for each thing that we read or change: systemd, network, /etc/hosts, ssh, Ganeti
    node        what runs in the nodes' units at each start of a daemon: the standard library only
    model       clusters as data: names, addresses, daemons, the configuration file
    base        errors, files, locks, processes, progress

ARCHITECTURE.md shows how they work together.
"""

VERSION = "0.1.0"
