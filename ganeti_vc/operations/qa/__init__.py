# SPDX-License-Identifier: BSD-2-Clause
"""gnt-vcluster qa: Ganeti's own QA suite."""
