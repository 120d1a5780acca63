# SPDX-License-Identifier: BSD-2-Clause
"""One module for each thing that we read or change on the machine."""
