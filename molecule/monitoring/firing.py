#!/usr/bin/env python
# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wait until a Prometheus says that alerts of a release fire; end with 1 if one does not, and say which do."""

from __future__ import annotations

import sys
import time

import queries


def main() -> int:
    arguments = queries.parser(__doc__)
    arguments.add_argument("alerts", nargs="+", metavar="ALERT")
    options = arguments.parse_args()
    prometheus = queries.Prometheus(options.url, options.kubeconfig, options.service)
    wanted = dict(one.split("=", 1) for one in options.set)
    until = time.monotonic() + options.patience
    while True:
        alerts = [alert for alert in prometheus.get("alerts")["alerts"] if wanted.items() <= alert["labels"].items()]
        firing = {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}
        missing = set(options.alerts) - firing
        if not missing or time.monotonic() >= until:
            break
        time.sleep(1)
    print(f"firing: {', '.join(sorted(firing)) or 'none'}" + (f"; not firing: {', '.join(sorted(missing))}" if missing else ""))
    return bool(missing)


if __name__ == "__main__":
    sys.exit(main())
