# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection's version, that of galaxy.yml, which a running module cannot read. PRIVATE to the collection."""

from __future__ import annotations

VERSION = "0.1.0"
