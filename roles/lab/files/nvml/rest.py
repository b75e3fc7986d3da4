# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes C for what nvml.h declares and stub.c lacks. A program that misses a function of a library it binds late ends.

rest.py nvml.h stub.c > rest.c
"""

from __future__ import annotations

import pathlib
import re
import sys

NOT_SUPPORTED = 3

header, stub = (pathlib.Path(path).read_text(encoding="utf-8") for path in sys.argv[1:])
declared = set(re.findall(r"DECLDIR\s+(nvml\w+)\s*\(", header))
written = set(re.findall(r"^(?:API|.*\*)\s*(nvml\w+)\(", stub, re.MULTILINE))
for name in sorted(declared - written):
    print(f'__attribute__((visibility("default"))) int {name}(void) {{ return {NOT_SUPPORTED}; }}')
