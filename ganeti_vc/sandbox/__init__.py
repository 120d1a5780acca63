# SPDX-License-Identifier: BSD-2-Clause
"""A private system for clusters. Knows nothing of clusters."""
