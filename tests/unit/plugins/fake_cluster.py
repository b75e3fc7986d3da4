# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Kubernetes API server in this process that answers what a test put in."""

from __future__ import annotations

import http.server
import json
import threading
from urllib.parse import urlsplit


class FakeCluster(http.server.ThreadingHTTPServer):
    """``answers`` maps a path to an object, a status for a refusal, or None to break the connection; ``denied`` holds (verb, resource) that the account lacks.

    ``on_watch`` is called when somebody watches, and its return value is sent as the event; ``requests`` holds (path, Accept). What is patched changes
    ``answers``.
    """

    daemon_threads = True
    # Modules ask for many things at once; a connection that does not fit in the queue is tried again after a second.
    request_queue_size = 64

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: dict = {"/version/": VERSION}
        self.denied: set = set()
        self.on_watch = None
        self.requests: list = []
        self.url = f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> FakeCluster:
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_exception) -> None:
        self.shutdown()
        self.server_close()


VERSION = {
    "major": "1",
    "minor": "35",
    "gitVersion": "v1.35.4",
    **dict.fromkeys(("gitCommit", "gitTreeState", "buildDate", "goVersion", "compiler", "platform"), ""),
}


class _Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args):
        """Keep the test's output clean."""

    def answer(self, content: object) -> None:
        if content is None:
            return
        status = 200
        if isinstance(content, int):
            status, content = content, {"kind": "Status", "message": "forbidden: not for you"}
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        self.server.requests.append((url.path, self.headers.get("Accept", "")))
        if "watch=" in url.query:
            self.answer(self.server.on_watch())
        else:
            self.answer(self.server.answers.get(url.path, 404))

    def do_PATCH(self) -> None:
        patch = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        found = self.server.answers[urlsplit(self.path).path]
        found["metadata"]["annotations"] = {**found["metadata"].get("annotations", {}), **patch["metadata"].get("annotations", {})}
        found["data"] = {**found.get("data", {}), **patch.get("data", {})}
        self.answer(found)

    def do_POST(self) -> None:
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        asked = review["spec"]["resourceAttributes"]
        resource = "/".join(filter(None, (asked["resource"], asked.get("subresource"))))
        self.answer({**review, "status": {"allowed": (asked["verb"], resource) not in self.server.denied}})
