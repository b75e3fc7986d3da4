# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module against a small API server in this process that knows namespaces, Secrets and lists of what uses them."""

from __future__ import annotations

import base64
import datetime
import http.server
import json
import threading
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from ansible.module_utils import basic
from ansible_collections.mlserving.triton.plugins.module_utils import _aws_sources, _cluster, _credentials
from ansible_collections.mlserving.triton.plugins.modules import triton_secret

KEY = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
NEW_KEY = "anotherXKeyOf/40/Characters+ThatIsNoReal"
TEMPORARY_ID, TOKEN = "ASIAIOSFODNN7EXAMPLE", "a-token-of-temporary-credentials"
TEMPORARY = {"access_key_id": TEMPORARY_ID, "session_token": TOKEN}
OURS = {"app.kubernetes.io/managed-by": "mlserving.triton", "app.kubernetes.io/instance": "demo", "app.kubernetes.io/component": "credentials"}


class ApiServer(http.server.ThreadingHTTPServer):
    """``secrets`` maps (namespace, name) to an object, ``others`` a plural to a list; ``refuse`` is what ``refused`` requests get."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.namespaces, self.secrets, self.others, self.writes = {"triton"}, {}, {}, 0
        self.refuse, self.refused = None, lambda method, resource: True

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
        namespace, resource, *rest = unquote(url.path).split("/namespaces/")[1].split("/")
        key, dry = (namespace, rest[0] if rest else None), "dryRun=All" in url.query
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "null")
        store = self.server.secrets
        if self.server.refuse and self.server.refused(self.command, resource):
            return self.answer(403, self.server.refuse)
        if resource != "secrets":
            return self.answer(200, {"items": self.server.others.get(resource, [])})
        if self.command == "GET" and not rest:
            wanted = dict(pair.split("=") for pair in parse_qs(url.query)["labelSelector"][0].split(","))
            items = [
                secret for (space, _name), secret in store.items() if space == namespace and wanted.items() <= secret["metadata"]["labels"].items()
            ]
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
    aws = [name for names in _aws_sources.ENVIRONMENT.values() for name in names]
    for name in (*_cluster.ENVIRONMENT.values(), "KUBECONFIG", *aws, _aws_sources.EXPIRATION, "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/dev/null")
    with ApiServer() as api:
        threading.Thread(target=api.serve_forever, args=(0.02,), daemon=True).start()
        yield api
        api.shutdown()


@pytest.fixture
def run(server, run_module):
    def call(check=False, **options):
        base = {"host": f"http://127.0.0.1:{server.server_port}", "namespace": "triton", "release": "demo"}
        if options.get("state") != "absent" and options.get("values_from", "options") == "options":
            base |= {"access_key_id": "AKIAIOSFODNN7EXAMPLE", "secret_access_key": KEY, "region": "us-east-1"}
        return run_module(triton_secret, {option: value for option, value in (base | options).items() if value is not None}, check)

    return call


@pytest.fixture
def environment(monkeypatch):
    def give(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    give(AWS_ACCESS_KEY_ID=TEMPORARY_ID, AWS_SECRET_ACCESS_KEY=KEY, AWS_SECURITY_TOKEN=TOKEN)
    return give


@pytest.fixture
def profile(monkeypatch, tmp_path, environment):
    """A profile `reader`, in an environment that has other credentials."""
    environment(AWS_ACCESS_KEY_ID="of-the-environment", AWS_DEFAULT_REGION="of-the-environment")

    def give(text: str):
        (tmp_path / "config").write_text(text)
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))

    give(f"[profile reader]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = {KEY}\nregion = eu-west-1\n")
    return give


def process(tmp_path, **fields) -> str:
    """Return a profile whose credentials come from a process, and are issued anew before they end."""
    content = {"Version": 1, "AccessKeyId": TEMPORARY_ID, "SecretAccessKey": KEY, "SessionToken": TOKEN, **fields}
    (tmp_path / "issued").write_text(json.dumps(content))
    return f"[profile reader]\nregion = eu-west-1\ncredential_process = cat {tmp_path / 'issued'}\n"


def after(hours: float) -> str:
    return _credentials.utc(datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=hours))


def pod_template(*names: str) -> dict:
    return {"template": {"spec": {"containers": [{"envFrom": [{"secretRef": {"name": name}} for name in names]}]}}}


def test_writes_once_and_then_changes_nothing(server, run):
    first = run()
    assert first["changed"] and first["name"] == f"demo-aws-{first['digest']}"
    assert server.data(first["name"]) == {
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
        "AWS_SECRET_ACCESS_KEY": KEY,
    }
    stored = server.secrets["triton", first["name"]]
    assert stored["immutable"] and stored["metadata"]["labels"] == OURS and "annotations" not in stored["metadata"]
    second = run()
    assert not second["changed"] and second["name"] == first["name"] and server.writes == 1


def test_new_credentials_get_a_secret_of_their_own(server, run):
    names = {run()["name"], run(secret_access_key=NEW_KEY)["name"], run(**TEMPORARY)["name"]}
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
    assert {key: predicted[key] for key in ("name", "digest", "data_keys", "diff")} == {
        key: real[key] for key in ("name", "digest", "data_keys", "diff")
    }


def test_a_missing_namespace_is_an_error_but_for_check_mode(run):
    assert "the namespace nowhere does not exist on http://127.0.0.1" in run(namespace="nowhere")["msg"]
    assert run(check=True, namespace="nowhere")["changed"]
    gone = run(namespace="nowhere", state="absent")
    assert not gone["changed"] and gone["names"] == []


def test_a_fixed_name_is_updated_in_place(server, run):
    run(name="aws-credentials", **TEMPORARY)
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
    server.refuse = {"message": 'secrets is forbidden: User\n "me" may not'}
    message = run()["msg"]
    assert "refused to read /api/v1/namespaces/triton/secrets/demo-aws-" in message and '(403): secrets is forbidden: User "me" may not.' in message
    assert "Ask for the right to" in message and "\n" not in message


def test_a_server_that_does_not_answer_is_named(run):
    message = run(host="http://127.0.0.1:9")["msg"]
    assert message.startswith("the API server http://127.0.0.1:9 does not answer (") and "\n" not in message


@pytest.mark.parametrize(
    ("options", "missing"),
    [
        ({"access_key_id": None, "secret_access_key": None, "region": None}, "access_key_id, secret_access_key, region"),
        ({"access_key_id": None, "secret_access_key": None, "region": None, "data": {}}, "access_key_id, secret_access_key, region"),
        ({"region": None}, "region"),
        ({"secret_access_key": None, "data": {"a": "b"}}, "secret_access_key"),
        ({"access_key_id": None, "secret_access_key": None, "session_token": TOKEN, "data": {"a": "b"}}, "access_key_id, secret_access_key"),
    ],
)
def test_the_values_are_required_to_be_present(server, run, options, missing):
    message = run(**options)["msg"]
    assert message.startswith(f"state is present, and missing: {missing}. Give access_key_id, secret_access_key and region, or")
    assert server.writes == 0


@pytest.mark.parametrize(
    "reason",
    [
        {"message": 'secrets "x" is forbidden: unable to create new content in namespace triton because it is being terminated'},
        {"message": "no", "details": {"causes": [{"reason": "NamespaceTerminating"}]}},
    ],
)
def test_a_namespace_that_is_being_deleted_is_said_so(server, run, reason):
    server.refuse, server.refused = reason, lambda method, resource: method == "POST"
    message = run()["msg"]
    assert message.startswith("the namespace triton on http://127.0.0.1") and "is being deleted" in message
    assert message.endswith("Wait until it is gone (kubectl wait --for=delete namespace/triton), then run again.")


@pytest.mark.parametrize("region", [None, "eu-west-1"])
def test_takes_what_a_controller_puts_into_the_environment(server, run, environment, region):
    ends = after(5)
    environment(AWS_REGION="us-west-2", AWS_CREDENTIAL_EXPIRATION=ends)
    first = run(values_from="environment", region=region)
    assert first["changed"] and first["expires"] == ends
    assert server.data(first["name"]) == {
        "AWS_ACCESS_KEY_ID": TEMPORARY_ID,
        "AWS_SECRET_ACCESS_KEY": KEY,
        "AWS_SESSION_TOKEN": TOKEN,
        "AWS_DEFAULT_REGION": region or "us-west-2",
    }
    assert first["name"] == run(**TEMPORARY, region=region or "us-west-2")["name"]
    assert not run(values_from="environment", region=region)["changed"]


def test_the_first_variable_of_two_counts(server, run, environment):
    environment(AWS_SESSION_TOKEN="the-newer-name", AWS_DEFAULT_REGION="eu-west-1", AWS_REGION="us-west-2")
    data = server.data(run(values_from="environment")["name"])
    assert (data["AWS_SESSION_TOKEN"], data["AWS_DEFAULT_REGION"]) == ("the-newer-name", "eu-west-1")


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, "An AWS credential of an automation controller sets no region: give the option region."),
        ({}, "values_from is environment: neither AWS_DEFAULT_REGION nor AWS_REGION is set where the module runs."),
        ({"AWS_ACCESS_KEY_ID": ""}, "values_from is environment: AWS_ACCESS_KEY_ID is not set where the module runs."),
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set where"),
        ({"AWS_REGION": "x", "AWS_SECURITY_TOKEN": ""}, "Give AWS_SESSION_TOKEN too, or lasting credentials"),
        ({"AWS_REGION": "x", "AWS_SECRET_ACCESS_KEY": KEY[1:]}, "the environment variable AWS_SECRET_ACCESS_KEY must have 40 characters"),
        ({"AWS_REGION": "x", "AWS_SECRET_ACCESS_KEY": KEY + "\n"}, "the environment variable AWS_SECRET_ACCESS_KEY has white space"),
        ({"AWS_REGION": "x", "AWS_SECRET_ACCESS_KEY": KEY + "\udcff"}, "the environment variable AWS_SECRET_ACCESS_KEY holds bytes that"),
        ({"AWS_REGION": "a b"}, "the environment variable AWS_REGION has other characters"),
        ({"AWS_REGION": "x", "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE"}, "the environment variable AWS_SECURITY_TOKEN is given, but"),
        ({"AWS_REGION": "x", "AWS_CREDENTIAL_EXPIRATION": "soon"}, "the environment variable AWS_CREDENTIAL_EXPIRATION is no time in ISO 8601"),
        ({"AWS_REGION": "x", "AWS_CREDENTIAL_EXPIRATION": "2026-01-01T00:00:00Z"}, "AWS_SECURITY_TOKEN expired at 2026-01-01T00:00:00Z ("),
    ],
)
def test_names_what_the_environment_lacks(server, run, environment, variables, expected):
    environment(**variables)
    failed = run(values_from="environment")
    assert expected in failed["msg"] and server.writes == 0
    assert not any(value in json.dumps(failed) for value in (KEY[1:], TOKEN, TEMPORARY_ID))


def test_takes_a_profile_and_nothing_else(server, run, profile):
    data = server.data(run(values_from="profile", profile="reader")["name"])
    assert data == {"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY": KEY, "AWS_DEFAULT_REGION": "eu-west-1"}
    assert server.data(run(values_from="profile", profile="reader", region="us-west-2")["name"])["AWS_DEFAULT_REGION"] == "us-west-2"


def test_a_profile_that_is_issued_anew_tells_when_it_ends(server, run, profile, tmp_path):
    ends, sooner = after(7), after(3)
    profile(process(tmp_path, Expiration=ends))
    first = run(values_from="profile", profile="reader")
    assert first["expires"] == ends and server.data(first["name"])["AWS_SESSION_TOKEN"] == TOKEN
    assert run(values_from="profile", profile="reader", expires=sooner)["expires"] == sooner
    assert run(values_from="profile", profile="reader", expires=after(30))["expires"] == ends


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        (None, {}, "values_from is profile, but profile is not given. Name one"),
        (None, {"profile": "other"}, "there is no profile 'other' where the module runs. There are: reader."),
        ("[broken", {"profile": "reader"}, "the profile 'reader' gives no credentials (ConfigParseError). Try where the module runs: aws sts"),
        ("[profile reader]\nregion = eu-west-1\n", {"profile": "reader"}, "the profile 'reader' has no credentials. Add them"),
        (f"[profile reader]\naws_access_key_id = x\naws_secret_access_key = {KEY}\n", {"profile": "reader"}, "has no region. Give the option"),
        ("[profile reader]\naws_access_key_id = x\n", {"profile": "reader"}, "gives no credentials (PartialCredentialsError)"),
        (f"[profile reader]\ncredential_process = echo {KEY}\n", {"profile": "reader"}, "gives no credentials (JSONDecodeError)"),
        ("[profile reader]\ncredential_process = /no/such/file\n", {"profile": "reader"}, "gives no credentials (FileNotFoundError)"),
        (
            f"[profile reader]\nregion = x\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = {KEY[1:]}\n",
            {"profile": "reader"},
            "the secret_access_key of the profile 'reader' must have 40 characters",
        ),
        (None, {"profile": "reader", "secret_access_key": KEY}, "values_from is profile, but secret_access_key is given too. Leave out one"),
    ],
)
def test_names_what_is_wrong_with_a_profile(server, run, profile, text, options, expected):
    if text:
        profile(text)
    failed = run(values_from="profile", **options)
    assert expected in failed["msg"] and server.writes == 0
    assert KEY[1:] not in json.dumps(failed)


def test_a_profile_needs_its_own_source_and_library(run, profile, monkeypatch):
    assert "profile is given, but values_from is options. Set values_from: profile" in run(profile="reader")["msg"]
    monkeypatch.setattr(_aws_sources, "botocore", None)
    assert "boto3>=1.38" in run(values_from="profile", profile="reader")["msg"]
    assert not run().get("failed")


NO_KEYS = {"access_key_id": None, "secret_access_key": None, "region": None}


def test_holds_further_keys_alone_or_beside_the_credentials(server, run):
    alone = run(**NO_KEYS, data={"key.json": '{"type": "service_account"}'})
    assert alone["name"] == f"demo-credentials-{alone['digest']}" and server.data(alone["name"]) == {"key.json": '{"type": "service_account"}'}
    beside = run(data={"key.json": "x"})
    assert beside["name"].startswith("demo-aws-")
    assert beside["data_keys"] == ["AWS_ACCESS_KEY_ID", "AWS_DEFAULT_REGION", "AWS_SECRET_ACCESS_KEY", "key.json"]
    assert not run(data={"key.json": "x"})["changed"]
    binary = run(**NO_KEYS, data={"key.p12": "/wA="}, encoding="base64")
    assert server.secrets["triton", binary["name"]]["data"] == {"key.p12": "/wA="}
    assert not run(**NO_KEYS, data={"key.p12": "/wA="}, encoding="base64")["changed"]


def test_writes_the_file_of_several_stores(server, run):
    file = {"s3": {"s3://b": {"secret_key": KEY, "key_id": "AKIAIOSFODNN7EXAMPLE"}}, "gs": {"": "/key.json"}}
    first = run(**NO_KEYS, cloud_credentials=file)
    assert first["name"].startswith("demo-credentials-") and first["data_keys"] == ["credentials.json"]
    assert server.data(first["name"])["credentials.json"] == (
        '{"gs":{"":"/key.json"},"s3":{"s3://b":{"key_id":"AKIAIOSFODNN7EXAMPLE","secret_key":"' + KEY + '"}}}'
    )
    assert not run(**NO_KEYS, cloud_credentials=dict(reversed(file.items())))["changed"]
    assert run(**{**NO_KEYS, "region": "us-east-1"}, cloud_credentials=file)["data_keys"] == ["AWS_DEFAULT_REGION", "credentials.json"]


def test_short_values_do_not_mask_what_is_returned(run):
    result = run(**NO_KEYS, data={"demo": "demo", "digits": "1", "letter": "a", "space": "triton"})
    assert result["name"] == f"demo-credentials-{result['digest']}" and result["namespace"] == "triton" and "*" not in json.dumps(result["diff"])
    assert result["invocation"]["module_args"]["data"] == "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER"


@pytest.mark.parametrize("masked", [True, False])
def test_no_value_of_any_option_or_place_leaves_the_module(server, run, environment, profile, tmp_path, monkeypatch, masked):
    if not masked:
        # Nor does it without Ansible's own masking.
        monkeypatch.setattr(basic, "remove_values", lambda result, values: result)
    other = "some-other-value-that-is-secret"
    values = [KEY, NEW_KEY, TOKEN, TEMPORARY_ID, other]
    values += [base64.b64encode(value.encode()).decode() for value in values]
    given = {**TEMPORARY, "secret_access_key": KEY, "region": "us-east-1"}
    file = {"s3": {"": {"key_id": TEMPORARY_ID, "secret_key": KEY, "session_token": TOKEN}}, "gs": {"": other}, "as": {"": {"account_key": other}}}
    environment(AWS_ACCESS_KEY_ID=TEMPORARY_ID)

    def results():
        yield run(**TEMPORARY, data={"a": other}, cloud_credentials=file)
        yield run(name="fixed", **TEMPORARY, data={"a": other}, cloud_credentials=file)
        yield run(name="fixed", secret_access_key=NEW_KEY, prune=True)
        yield run(**NO_KEYS, data={"a": values[-1]}, encoding="base64")
        yield run(**NO_KEYS, cloud_credentials={"s3": {"": {**file["s3"][""], "secret_key": f" {KEY}\n"}}}, strip=True)
        yield run(values_from="environment", expires=after(0.5))
        profile(process(tmp_path))
        yield run(values_from="profile", profile="reader")
        yield run(state="absent", name="no-such", data={"a": other}, cloud_credentials=file, **TEMPORARY)
        for options in (
            {"data": {"a b": other}},
            {"data": {"AWS_ACCESS_KEY_ID": other}, **given},
            {"data": {"a": [other]}},
            {"data": {"a": other}, "encoding": "base64"},
            {"cloud_credentials": {**file, "gs": {"": f"{other} "}}},
            {"cloud_credentials": {**file, "as": {"": {"key": other}}}},
            {"cloud_credentials": {"s3": {"": {**file["s3"][""], "secret_key": KEY + NEW_KEY}}}},
            {"cloud_credentials": {"s3": {"": {**file["s3"][""], "session_token": TOKEN + "\n"}}}},
            {"expires": "2026-01-01T00:00:00Z", **given},
            {"expires": other, **given},
            {"values_from": "environment", "session_token": TOKEN},
            {"values_from": "environment", "region": KEY},
            {"values_from": "environment", "expires": "2026-01-01T00:00:00Z"},
        ):
            yield run(**{**NO_KEYS, **options})
        if not masked:
            return
        yield run(**NO_KEYS, data=other)
        yield run(**NO_KEYS, cloud_credentials=other)
        # A server that repeats what it was sent.
        server.refuse, server.refused = {"message": f"{KEY} {other} {values[-1]} {TOKEN}"}, lambda method, resource: method == "POST"
        yield run(**TEMPORARY, data={"b": other})
        server.refuse = {"message": f"{KEY} {TOKEN} {TEMPORARY_ID}"}
        yield run(values_from="environment", region="us-west-1")

    failed = []
    for result in results():
        result["invocation"]["module_args"].pop("expires", None)
        result["invocation"]["module_args"].pop("region", None)
        assert not [value for value in values if value in json.dumps(result)], result
        failed.append(result.get("failed", False))
    assert failed == [False] * 8 + [True] * (17 if masked else 13)


@pytest.mark.parametrize("way", ["option", "token"])
def test_keeps_when_the_credentials_end(server, run, way):
    ends = after(2.5)
    seconds = int(datetime.datetime.fromisoformat(ends.replace("Z", "+00:00")).timestamp())
    jwt = f"eyJhbGciOiJIUzI1NiJ9.{base64.urlsafe_b64encode(json.dumps({'exp': seconds}).encode()).decode().rstrip('=')}.c2ln"
    plain = {"access_key_id": "STOREKEY", "session_token": jwt if way == "token" else TOKEN}
    options = plain | ({"expires": ends} if way == "option" else {})
    predicted, first = run(check=True, **options), run(**options)
    stored = server.secrets["triton", first["name"]]
    assert predicted["expires"] == first["expires"] == ends == stored["metadata"]["annotations"]["mlserving.triton/expires"] and stored["immutable"]
    assert not run(**options)["changed"] and run(**options)["warnings"] == []
    # Not told this time, but it still holds.
    again = run(**plain)
    assert not again["changed"] and again["expires"] == ends


def test_when_they_end_changes_in_place_and_goes_with_the_credentials(server, run):
    first, second = run(expires=after(3)), run(expires=after(4))
    assert second["changed"] and second["name"] == first["name"] and second["diff"]["after"]["expires"] != second["diff"]["before"]["expires"]
    run(name="fixed", expires=after(3))
    server.secrets["triton", "fixed"]["metadata"]["annotations"] |= {"theirs": "stays", "kubectl.kubernetes.io/last-applied-configuration": KEY}
    assert not run(name="fixed")["changed"]
    renewed = run(name="fixed", secret_access_key=NEW_KEY)
    assert "expires" not in renewed and server.secrets["triton", "fixed"]["metadata"]["annotations"] == {"theirs": "stays"}


def test_credentials_that_are_over_or_soon_will_be(server, run):
    over = run(**TEMPORARY, expires=after(-3.01))
    assert over["msg"].startswith("session_token expired at ") and over["msg"].endswith(" (3 hours ago). Get new ones.") and server.writes == 0
    assert run(expires=after(-49))["msg"].startswith("the credentials expired at ")
    assert run(expires="next week")["msg"] == "expires is no time in ISO 8601. Give one such as 2026-01-31T12:00:00Z."
    soon = run(expires=after(0.5))
    assert soon["changed"] and soon["warnings"] == [f"the credentials expire at {soon['expires']}, in 29 minutes. Get new ones before then."]


@pytest.mark.parametrize("labels", [{}, {"app.kubernetes.io/managed-by": "Helm"}, {**OURS, "app.kubernetes.io/instance": "other", "team": "a"}])
def test_takes_over_what_is_not_ours_if_told_so(server, run, labels):
    server.put("aws-credentials", labels, data={"OLD": "eA=="})
    predicted = run(name="aws-credentials", adopt=True, check=True)
    assert predicted["changed"] and server.writes == 0
    taken = run(name="aws-credentials", adopt=True)
    assert {key: taken[key] for key in ("changed", "diff", "data_keys")} == {key: predicted[key] for key in ("changed", "diff", "data_keys")}
    stored = server.secrets["triton", "aws-credentials"]
    assert stored["metadata"]["labels"] == labels | OURS and "OLD" not in stored["data"] and "immutable" not in stored
    assert not run(name="aws-credentials", adopt=True)["changed"] and not run(name="aws-credentials")["changed"]


def test_takes_over_one_without_any_metadata_of_its_own(server, run):
    server.put("aws-credentials")
    del server.secrets["triton", "aws-credentials"]["metadata"]["labels"], server.secrets["triton", "aws-credentials"]["data"]
    assert "set adopt: true together with its name" in run(name="aws-credentials")["msg"]
    assert run(name="aws-credentials", adopt=True)["changed"]


@pytest.mark.parametrize(
    ("existing", "expected"), [({"immutable": True}, "is immutable"), ({"type": "kubernetes.io/tls"}, "is of type kubernetes.io/tls")]
)
def test_does_not_take_over_what_cannot_be_changed(server, run, existing, expected):
    server.put("aws-credentials", **existing)
    assert expected in run(name="aws-credentials", adopt=True)["msg"] and server.writes == 0


def test_adopts_only_by_a_fixed_name(server, run):
    name = run()["name"]
    server.secrets["triton", name]["metadata"]["labels"] = {}
    assert "does not carry the label" in run(adopt=True)["msg"]


def test_prunes_what_nothing_refers_to(server, run):
    for name in ("unused", "deployed", "wanted", "running", "scaled-down", "finished", "pending", "leaving"):
        server.put(name, OURS)
    server.put("of-other", {**OURS, "app.kubernetes.io/instance": "other"})
    server.put("foreign")
    server.put("no-credentials", {**OURS, "app.kubernetes.io/component": "else"})
    server.others = {
        "deployments": [{"spec": {"replicas": 0, **pod_template("deployed")}}],
        "replicasets": [
            {"spec": pod_template("wanted")},
            {"spec": {"replicas": 0, **pod_template("running")}, "status": {"replicas": 1}},
            {"spec": {"replicas": 0, **pod_template("scaled-down")}, "status": {"replicas": 0}},
        ],
        "pods": [
            {"metadata": {}, "spec": pod_template("finished")["template"]["spec"], "status": {"phase": "Succeeded"}},
            {"metadata": {}, "spec": pod_template("pending")["template"]["spec"], "status": {"phase": "Pending"}},
            {
                "metadata": {"deletionTimestamp": "2026-11-25T07:00:00Z"},
                "spec": pod_template("leaving")["template"]["spec"],
                "status": {"phase": "Running"},
            },
        ],
    }
    assert "pruned" not in run() and len(server.secrets) == 12
    predicted = run(check=True, prune=True)
    assert predicted["changed"] and predicted["pruned"] == ["finished", "leaving", "scaled-down", "unused"] and len(server.secrets) == 12
    pruned = run(prune=True)
    assert {key: pruned[key] for key in ("changed", "pruned", "diff")} == {key: predicted[key] for key in ("changed", "pruned", "diff")}
    assert pruned["diff"]["before"]["unused"] == pruned["pruned"] and pruned["diff"]["after"]["unused"] == []
    left = {name for _space, name in server.secrets}
    assert left == {pruned["name"], "deployed", "wanted", "running", "pending", "of-other", "foreign", "no-credentials"}
    again = run(prune=True)
    assert not again["changed"] and again["pruned"] == []


def test_check_mode_predicts_pruning_with_new_credentials(server, run):
    old = run()["name"]
    predicted = run(check=True, prune=True, secret_access_key=NEW_KEY)
    assert predicted["pruned"] == [old] == run(prune=True, secret_access_key=NEW_KEY)["pruned"]
    assert run(check=True, prune=True, namespace="nowhere")["pruned"] == []


@pytest.mark.parametrize("resource", ["deployments", "replicasets", "pods"])
def test_what_may_not_be_listed_is_named_and_nothing_is_pruned(server, run, resource):
    server.put("unused", OURS)
    server.refuse, server.refused = {"message": f'{resource} is forbidden: User "me" cannot list resource'}, lambda method, asked: asked == resource
    message = run(prune=True)["msg"]
    assert message.startswith("the Secret demo-aws-") and "is as it should be, but unused ones could not be removed: the API server" in message
    assert f'(403): {resource} is forbidden: User "me" cannot list resource. Ask for the right to list {resource} in that namespace, or' in message
    assert ("triton", "unused") in server.secrets


def test_absent_takes_only_what_nothing_uses_if_told_so(server, run):
    used, unused = run()["name"], run(secret_access_key=NEW_KEY)["name"]
    server.others = {"deployments": [{"spec": pod_template(used)}]}
    assert run(state="absent", prune=True)["names"] == [unused]
    assert not run(state="absent", prune=True)["changed"] and run(state="absent")["names"] == [used]
