# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module against a small API server in this process that knows namespaces and Secrets."""

from __future__ import annotations

import base64
import http.server
import json
import threading
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from ansible_collections.mlserving.triton.plugins.module_utils import _cluster
from ansible_collections.mlserving.triton.plugins.modules import triton_secret

KEY = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
NEW_KEY = "anotherXKeyOf/40/Characters+ThatIsNoRealA"
OURS = {"app.kubernetes.io/managed-by": "mlserving.triton", "app.kubernetes.io/instance": "demo", "app.kubernetes.io/component": "credentials"}


class ApiServer(http.server.ThreadingHTTPServer):
    """``secrets`` maps (namespace, name) to an object; ``refuse`` is a status that every request gets."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.namespaces, self.secrets, self.refuse, self.writes = {"triton"}, {}, None, 0

    def put(self, name: str, labels: dict | None = None, **fields) -> None:
        self.secrets["triton", name] = {"metadata": {"name": name, "labels": labels or {}}, "type": "Opaque", "data": {}, **fields}

    def data(self, name: str) -> dict:
        return {key: base64.b64decode(value).decode() for key, value in self.secrets["triton", name]["data"].items()}


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args):
        """Keep the test's output clean."""

    def answer(self, status: int, content: dict) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def handle_request(self) -> None:
        url = urlsplit(self.path)
        _empty, _api, _v1, _namespaces, namespace, _secrets, *rest = unquote(url.path).split("/")
        key, dry = (namespace, rest[0] if rest else None), "dryRun=All" in url.query
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "null")
        store = self.server.secrets
        if self.server.refuse:
            return self.answer(self.server.refuse, {"message": "secrets is forbidden: User\n \"me\" may not"})
        if self.command == "GET" and not rest:
            wanted = dict(pair.split("=") for pair in parse_qs(url.query)["labelSelector"][0].split(","))
            items = [secret for (space, _name), secret in store.items() if space == namespace and wanted.items() <= secret["metadata"]["labels"].items()]
            return self.answer(200, {"items": items})
        if self.command == "POST":
            if namespace not in self.server.namespaces:
                return self.answer(404, {"message": f'namespaces "{namespace}" not found'})
            key = (namespace, body["metadata"]["name"])
        elif key not in store:
            return self.answer(404, {"message": "secrets not found"})
        if self.command in ("POST", "PUT") and not dry:
            store[key] = body
        if self.command == "DELETE" and not dry:
            del store[key]
        self.server.writes += self.command != "GET" and not dry
        return self.answer(200, body or store.get(key) or {})

    do_GET = do_POST = do_PUT = do_DELETE = handle_request


@pytest.fixture
def server(monkeypatch):
    for name in (*_cluster.ENVIRONMENT.values(), "KUBECONFIG"):
        monkeypatch.delenv(name, raising=False)
    with ApiServer() as api:
        threading.Thread(target=api.serve_forever, args=(0.02,), daemon=True).start()
        yield api
        api.shutdown()


@pytest.fixture
def run(server, run_module):
    def call(check=False, **options):
        base = {"host": f"http://127.0.0.1:{server.server_port}", "namespace": "triton", "release": "demo"}
        if options.get("state") != "absent":
            base |= {"access_key_id": "AKIAIOSFODNN7EXAMPLE", "secret_access_key": KEY, "region": "us-east-1"}
        return run_module(triton_secret, base | options, check)

    return call


def test_writes_once_and_then_changes_nothing(server, run):
    first = run()
    assert first["changed"] and first["name"] == f"demo-aws-{first['digest']}"
    assert server.data(first["name"]) == {"AWS_DEFAULT_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY": KEY}
    stored = server.secrets["triton", first["name"]]
    assert stored["immutable"] and stored["metadata"]["labels"] == OURS and "annotations" not in stored["metadata"]
    second = run()
    assert not second["changed"] and second["name"] == first["name"] and server.writes == 1


def test_new_credentials_get_a_secret_of_their_own(server, run):
    names = {run()["name"], run(secret_access_key=NEW_KEY)["name"], run(session_token="a-token")["name"]}
    assert len(names) == 3 == len(server.secrets)


def test_no_value_leaves_the_module(run):
    encoded = base64.b64encode(KEY.encode()).decode()
    results = [
        run(),
        run(name="fixed"),
        run(name="fixed", secret_access_key=NEW_KEY),
        run(encoding="base64", access_key_id="bGFiaWQ=", secret_access_key=encoded, region="dXMtZWFzdC0x"),
        run(access_key_id=KEY, secret_access_key="AKIAIOSFODNN7EXAMPLE"),
        run(secret_access_key=KEY + "\n"),
        run(encoding="base64", secret_access_key=encoded, access_key_id="no base64"),
    ]
    assert [result.get("failed", False) for result in results] == [False] * 4 + [True] * 3
    for result in results:
        assert not any(secret in json.dumps(result) for secret in (KEY, NEW_KEY, encoded))


def test_a_short_id_does_not_mask_the_name(run):
    assert run(access_key_id="demo")["name"].startswith("demo-aws-")


def test_check_mode_predicts_and_writes_nothing(server, run):
    predicted = run(check=True)
    assert predicted["changed"] and not server.secrets
    real = run()
    assert {key: predicted[key] for key in ("name", "digest", "data_keys", "diff")} == {key: real[key] for key in ("name", "digest", "data_keys", "diff")}


def test_a_missing_namespace_is_an_error_but_for_check_mode(run):
    assert "the namespace nowhere does not exist on http://127.0.0.1" in run(namespace="nowhere")["msg"]
    assert run(check=True, namespace="nowhere")["changed"]
    gone = run(namespace="nowhere", state="absent")
    assert not gone["changed"] and gone["names"] == []


def test_a_fixed_name_is_updated_in_place(server, run):
    run(name="aws-credentials", session_token="a-token")
    server.secrets["triton", "aws-credentials"]["metadata"]["annotations"] = {"theirs": "stays"}
    changed = run(name="aws-credentials", secret_access_key=NEW_KEY, labels={"team": "a"})
    assert changed["changed"] and changed["diff"]["before"]["digest"] != changed["diff"]["after"]["digest"]
    stored = server.secrets["triton", "aws-credentials"]
    assert server.data("aws-credentials")["AWS_SECRET_ACCESS_KEY"] == NEW_KEY and "AWS_SESSION_TOKEN" not in stored["data"]
    assert stored["metadata"]["annotations"] == {"theirs": "stays"} and stored["metadata"]["labels"]["team"] == "a"
    assert not run(name="aws-credentials", secret_access_key=NEW_KEY)["changed"]


@pytest.mark.parametrize(
    ("existing", "expected"),
    [
        ({"labels": {"app.kubernetes.io/managed-by": "Helm"}}, "does not carry the label app.kubernetes.io/managed-by=mlserving.triton"),
        ({"labels": {**OURS, "app.kubernetes.io/instance": "other"}}, "belongs to the release 'other', not to 'demo'"),
        ({"labels": OURS, "immutable": True}, "is immutable"),
        ({"labels": OURS, "type": "kubernetes.io/tls"}, "is of type kubernetes.io/tls"),
    ],
)
def test_refuses_a_secret_that_is_not_ours_to_write(server, run, existing, expected):
    server.put("aws-credentials", **existing)
    assert expected in run(name="aws-credentials")["msg"]
    assert server.writes == 0


def test_absent_takes_the_release_and_nothing_else(server, run):
    names = sorted((run()["name"], run(secret_access_key=NEW_KEY)["name"]))
    server.put("foreign", {"app.kubernetes.io/instance": "demo"})
    server.put("of-other", {**OURS, "app.kubernetes.io/instance": "other"})
    assert run(check=True, state="absent")["names"] == names and len(server.secrets) == 4
    assert run(state="absent")["names"] == names
    assert sorted(name for _space, name in server.secrets) == ["foreign", "of-other"]
    assert not run(state="absent")["changed"]


def test_absent_with_a_name_takes_only_that_one_and_leaves_a_foreign_one(server, run):
    kept = run()["name"]
    run(name="aws-credentials")
    server.put("foreign")
    assert run(state="absent", name="aws-credentials")["names"] == ["aws-credentials"]
    left = run(state="absent", name="foreign")
    assert not left["changed"] and "the Secret foreign was left" in json.dumps(left)
    assert sorted(name for _space, name in server.secrets) == sorted((kept, "foreign"))


def test_a_refusal_is_one_line_with_the_reason(server, run):
    server.refuse = 403
    message = run()["msg"]
    assert 'refused to read /api/v1/namespaces/triton/secrets/demo-aws-' in message and '(403): secrets is forbidden: User "me" may not.' in message
    assert "Ask for the right to" in message and "\n" not in message


def test_a_server_that_does_not_answer_is_named(run):
    message = run(host="http://127.0.0.1:9")["msg"]
    assert message.startswith("the API server http://127.0.0.1:9 does not answer (") and "\n" not in message


def test_the_values_are_required_to_be_present(run_module):
    failed = run_module(triton_secret, {"host": "http://127.0.0.1:9", "namespace": "a", "release": "b"})
    assert "access_key_id, secret_access_key, region" in failed["msg"]
