# SPDX-License-Identifier: BSD-2-Clause
"""Real Ganeti clusters of virtual nodes on one machine, under systemd.

The layers, from the user inwards; each imports only from those below it:

    cli         the command gnt-vcluster
    operations  up, scale, destroy, status; manager and plan/apply which they share
    systems     systemd, network, hosts, sshd, nodedir, ganeti: one module per thing we change
    model       config, names, addresses, daemons: pure
"""

VERSION = "0.1.0"
