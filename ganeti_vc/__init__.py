# SPDX-License-Identifier: BSD-2-Clause
"""Real Ganeti clusters of virtual nodes on one machine, under systemd.

The layers, from the user inwards; each imports only from those below it:

    cli         the command gnt-vcluster
    operations  up, scale, destroy, save, restore, throwaway, status; manager; plan, steps, apply, which they share
    systems     systemd, network, hosts, sshd, nodedir, ganeti, freezer, snapshots, swap: one module per thing we change
    model       config, keys, names, addresses, daemons, observed: pure
"""

VERSION = "0.1.0"
