# SPDX-License-Identifier: BSD-2-Clause
"""The command line: arguments in, text and an exit status out."""
