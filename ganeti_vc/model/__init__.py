# SPDX-License-Identifier: BSD-2-Clause
"""What a cluster is, as data: names, addresses, daemons, the configuration file. Pure."""
