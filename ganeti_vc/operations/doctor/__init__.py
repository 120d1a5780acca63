# SPDX-License-Identifier: BSD-2-Clause
"""gnt-vcluster doctor: what the machine can hold."""
