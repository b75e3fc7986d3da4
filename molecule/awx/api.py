# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for AWX's API, so that the modules of awx.awx can be run without an AWX: it keeps what it is given, and forgets it when it ends.

As AWX does: what is secret is not shown, related objects must be there, names are unique, a playbook must be in the project, a field that a launch does not
ask for is refused in a workflow's node. All else is kept as it came; AWX itself checks and changes more.
"""

from __future__ import annotations

import contextlib
import http.server
import itertools
import json
import pathlib
import threading
import urllib.parse

SECRET = "$encrypted$"
#: Collections of objects, with what their names are unique in.
UNIQUE = {
    "organizations": (),
    "credential_types": (),
    "credentials": ("organization", "credential_type"),
    "execution_environments": (),
    "notification_templates": ("organization",),
    "projects": ("organization",),
    "inventories": ("organization",),
    "hosts": ("inventory",),
    "groups": ("inventory",),
    "job_templates": ("organization",),
    "workflow_job_templates": ("organization",),
    "workflow_job_template_nodes": ("workflow_job_template",),
    "schedules": (),
}
UNIFIED = ("job_templates", "workflow_job_templates", "projects")
#: Fields and lists of an object that name others, and where those are.
RELATED = {
    "organization": ("organizations",),
    "credential_type": ("credential_types",),
    "credential": ("credentials",),
    "credentials": ("credentials",),
    "default_environment": ("execution_environments",),
    "execution_environment": ("execution_environments",),
    "inventory": ("inventories",),
    "project": ("projects",),
    "unified_job_template": UNIFIED,
    "workflow_job_template": ("workflow_job_templates",),
    "hosts": ("hosts",),
    "notification_templates_error": ("notification_templates",),
    "success_nodes": ("workflow_job_template_nodes",),
    "failure_nodes": ("workflow_job_template_nodes",),
}


class Refused(Exception):
    """What AWX answers with 400: the problems by field."""


class Controller:
    """What an AWX knows."""

    def __init__(self, project: pathlib.Path):
        self._numbers = itertools.count(1)
        self._project = project
        self.lock = threading.Lock()
        self.objects: dict[str, dict[int, dict]] = {collection: {} for collection in UNIQUE}
        self.lists: dict[tuple[int, str], list[int]] = {}
        self.surveys: dict[int, dict] = {}
        self.create("organizations", {"name": "Default"})

    def find(self, collections: tuple[str, ...], number: int) -> dict | None:
        return next((self.objects[name][number] for name in collections if number in self.objects[name]), None)

    def listed(self, collections: tuple[str, ...], query: dict[str, str]) -> list[dict]:
        """Return the objects that have all fields of a query, and one of those that begin with or__."""
        found = [entry for name in collections for entry in self.objects[name].values()]
        either = {key.removeprefix("or__"): value for key, value in query.items() if key.startswith("or__")}
        for key, value in query.items():
            if key not in ("page_size", "order_by") and not key.startswith("or__"):
                found = [entry for entry in found if str(entry.get(key)) == value]
        return [entry for entry in found if not either or any(str(entry.get(key)) == value for key, value in either.items())]

    def create(self, collection: str, fields: dict) -> dict:
        """Return a new object.

        :raises Refused: something of it is wrong
        """
        self._check(collection, fields)
        number = next(self._numbers)
        kind = "inventory" if collection == "inventories" else collection.removesuffix("s")
        url = f"/api/v2/{collection}/{number}/"
        related = {name: f"{url}{name}/" for name in ("survey_spec", "update", "hosts")}
        made = {**fields, "id": number, "type": kind, "url": url, "related": related, "summary_fields": {}}
        self.objects[collection][number] = made
        if collection == "projects":
            self._update(made)
        return made

    def change(self, collection: str, entry: dict, fields: dict) -> None:
        self._check(collection, {**entry, **fields}, entry["id"])
        entry |= fields
        if collection == "projects":
            self._update(entry)

    def _update(self, project: dict) -> None:
        project["scm_revision"] = "0" * 40
        project["summary_fields"] = {"current_update": {"id": project["id"]}}

    def _check(self, collection: str, fields: dict, own: int = 0) -> None:
        name = "identifier" if collection == "workflow_job_template_nodes" else "name"
        if not fields.get(name):
            raise Refused({name: ["This field is required."]})
        for field, collections in RELATED.items():
            if fields.get(field) is not None and not self.find(collections, fields[field]):
                raise Refused({field: [f'Invalid pk "{fields[field]}" - object does not exist.']})
        same = {key: str(fields.get(key)) for key in (name, *UNIQUE[collection])}
        if collection != "schedules" and any(entry["id"] != own for entry in self.listed((collection,), same)):
            raise Refused({"__all__": [f"{collection} with these {', '.join(same)} already exists."]})
        if collection == "credentials":
            unknown = set(fields.get("inputs") or {}) - {field["id"] for field in self._type(fields)["inputs"]["fields"]}
            if unknown:
                raise Refused({"inputs": [f"Additional properties are not allowed ({', '.join(sorted(unknown))} was unexpected)"]})
        if collection == "job_templates" and not (self._project / fields["playbook"]).is_file():
            raise Refused({"playbook": ["Playbook not found for project."]})
        if collection == "workflow_job_template_nodes" and fields.get("limit"):
            if not self.find(UNIFIED, fields["unified_job_template"]).get("ask_limit_on_launch"):
                raise Refused({"limit": ["Field is not configured to prompt on launch."]})

    def _type(self, credential: dict) -> dict:
        return self.objects["credential_types"][credential["credential_type"]]

    def shown(self, entry: dict) -> dict:
        """Return an object without what is secret."""
        if entry["type"] == "credential":
            secret = {field["id"] for field in self._type(entry)["inputs"]["fields"] if field.get("secret")}
            return {**entry, "inputs": {key: SECRET if key in secret and value else value for key, value in (entry.get("inputs") or {}).items()}}
        if entry["type"] == "notification_template":
            settings = entry["notification_configuration"]
            return {**entry, "notification_configuration": {**settings, "password": SECRET if settings.get("password") else ""}}
        return entry


class Handler(http.server.BaseHTTPRequestHandler):
    controller: Controller

    def do_GET(self) -> None:
        self._answer("GET")

    def do_POST(self) -> None:
        self._answer("POST")

    def do_PATCH(self) -> None:
        self._answer("PATCH")

    def _answer(self, method: str) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        address = urllib.parse.urlsplit(self.path)
        try:
            with self.controller.lock:
                query = dict(urllib.parse.parse_qsl(address.query))
                status, answer = self._route(method, address.path.strip("/").split("/")[2:], query, json.loads(body or "{}"))
        except Refused as refused:
            status, answer = 400, refused.args[0]
        content = json.dumps(answer).encode() if answer is not None else b""
        self.send_response(status)
        self.send_header("X-API-Product-Name", "AWX")
        self.send_header("X-API-Product-Version", "24.6.1")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _route(self, method: str, path: list[str], query: dict[str, str], fields: dict) -> tuple[int, object]:
        if self.headers.get("Authorization") != "Bearer token":
            return 401, {}
        collection, *rest = path
        controller = self.controller
        if collection == "project_updates":
            controller.objects["projects"][int(rest[0])]["summary_fields"] = {}  # it has ended
            return 200, {"status": "successful", "finished": True, "failed": False, "scm_revision": "0" * 40, "id": int(rest[0]), "elapsed": 0}
        collections = UNIFIED if collection == "unified_job_templates" else (collection,)
        if not set(collections) <= set(UNIQUE):
            return 404, {}
        if not rest:
            if method == "POST":
                return 201, controller.shown(controller.create(collection, fields))
            found = [controller.shown(entry) for entry in controller.listed(collections, query)]
            return 200, {"count": len(found), "next": None, "results": found}
        entry = controller.find(collections, int(rest[0]))
        if not entry:
            return 404, {}
        if rest[1:]:
            return self._part(method, entry, rest[1], fields)
        if method == "PATCH":
            controller.change(collection, entry, fields)
        return 200, controller.shown(entry)

    def _part(self, method: str, entry: dict, name: str, fields: dict) -> tuple[int, object]:
        """Answer for what belongs to an object: its survey, its update, its lists of others."""
        controller = self.controller
        if name == "survey_spec":
            if method == "POST":
                controller.surveys[entry["id"]] = fields
            return 200, controller.surveys.get(entry["id"], {})
        if name == "update":
            return 202, {"url": f"/api/v2/project_updates/{entry['id']}/"}
        if name not in RELATED:
            return 404, {}
        numbers = controller.lists.setdefault((entry["id"], name), [])
        if method == "GET":
            found = [controller.shown(controller.find(RELATED[name], number)) for number in numbers]
            return 200, {"count": len(found), "next": None, "results": found}
        if not controller.find(RELATED[name], fields["id"]):
            return 400, {"msg": f"{name} with id {fields['id']} does not exist."}
        numbers.remove(fields["id"]) if fields.get("disassociate") else numbers.append(fields["id"])
        return 204, None

    def log_message(self, *words: object) -> None:
        """Keep the output for what is wrong."""


@contextlib.contextmanager
def serving(controller: Controller):
    """Serve a controller while the context lasts, and give its address."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"controller": controller}))
    threading.Thread(target=server.serve_forever).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
