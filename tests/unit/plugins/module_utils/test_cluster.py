# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os

import pytest

from ansible_collections.mlserving.triton.plugins.module_utils import _cluster
from ansible_collections.mlserving.triton.tests.unit.plugins.fake_cluster import FakeCluster

TOKEN = "not-to-be-shown"
KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: {context}
clusters: [{{name: of-{context}, cluster: {{server: "{server}"}}}}]
contexts: [{{name: {context}, context: {{cluster: of-{context}, user: u}}}}]
users: [{{name: u, user: {{token: %s}}}}]
""" % TOKEN


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def kubeconfig(tmp_path):
    """Write a kubeconfig and return its path."""

    def write(name, server="https://a:6443", context="lab", text=None):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(KUBECONFIG.format(server=server, context=context) if text is None else text)
        return str(path)

    return write


def refusal(params, environ=None):
    with pytest.raises(_cluster.ClusterError) as raised:
        _cluster.resolve(params, environ or {}, "the inventory")
    return str(raised.value)


def test_nothing_named_says_how_to_name_a_cluster(kubeconfig):
    kubeconfig(".kube/config")
    message = refusal({}, {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"})
    assert message.startswith("no cluster is named.") and "`make lab`" in message and "KUBECONFIG" in message
    assert refusal({"kubeconfig": "", "context": "", "host": "", "api_key": TOKEN}) == message


def test_an_option_and_the_environment_that_name_two_clusters(kubeconfig):
    environ = {"KUBECONFIG": kubeconfig("theirs", "https://b:6443")}
    message = refusal({"kubeconfig": kubeconfig("ours")}, environ)
    assert "the inventory names https://a:6443, the environment (KUBECONFIG) names https://b:6443" in message
    assert "Nothing was changed" in message and TOKEN not in message
    assert "names https://c:1, the environment (KUBECONFIG) names https://b:6443" in refusal({"host": "https://c:1"}, environ)


def test_the_same_server_named_twice_is_fine(kubeconfig):
    option, other = kubeconfig("ours"), kubeconfig("theirs", "https://a:6443/", "elsewhere")
    target = _cluster.resolve({"kubeconfig": option}, {"KUBECONFIG": other}, "the inventory")
    assert (target.kubeconfig, target.context, target.source) == (option, "lab", "the inventory")


def test_a_context_alone_selects_in_the_kubeconfig_that_is_there(kubeconfig):
    own = kubeconfig(".kube/config", "https://own:1", "prod")
    assert _cluster.resolve({"context": "prod"}, {}).server == "https://own:1"
    assert _cluster.resolve({"context": "prod"}, {}).kubeconfig == own
    both = kubeconfig("a") + os.pathsep + kubeconfig("b", "https://b:1", "prod")
    assert _cluster.resolve({"context": "prod"}, {"KUBECONFIG": both}).server == "https://b:1"


def test_a_context_selects_in_the_environments_kubeconfig_whatever_its_current_one_is(kubeconfig):
    other = "\nclusters: [{name: of-prod, cluster: {server: 'https://a:1'}}, {name: of-lab, cluster: {server: 'https://b:1'}}]"
    other += "\ncontexts: [{name: prod, context: {cluster: of-prod}}, {name: lab, context: {cluster: of-lab}}]\n"
    for current in ("", "current-context: lab"):
        path = kubeconfig("several", text=current + other)
        for params in ({"context": "prod"}, {"context": "prod", "kubeconfig": path}):
            assert _cluster.resolve(params, {"K8S_AUTH_KUBECONFIG": path}).server == "https://a:1"
    both = {"K8S_AUTH_KUBECONFIG": path, "K8S_AUTH_CONTEXT": "lab"}
    assert "two clusters are named" in refusal({"context": "prod", "kubeconfig": path}, both)


def test_a_context_alone_does_not_hide_the_environments_host(kubeconfig):
    kubeconfig(".kube/config", "https://own:1", "prod")
    message = refusal({"context": "prod"}, {"K8S_AUTH_HOST": "https://elsewhere:1"})
    assert "names https://own:1, the environment (K8S_AUTH_HOST) names https://elsewhere:1" in message
    assert _cluster.resolve({"context": "prod"}, {"K8S_AUTH_HOST": "https://own:1"}).context == "prod"


def test_k8s_auth_variables_go_before_kubeconfig(kubeconfig):
    environ = {"K8S_AUTH_KUBECONFIG": kubeconfig("first"), "KUBECONFIG": kubeconfig("second", "https://b:1")}
    target = _cluster.resolve({}, environ)
    assert target.server == "https://a:6443" and target.source == "the environment (K8S_AUTH_KUBECONFIG)"
    target = _cluster.resolve(
        {}, {"K8S_AUTH_HOST": "https://h/", "K8S_AUTH_API_KEY": TOKEN, "K8S_AUTH_VERIFY_SSL": "False", "KUBECONFIG": "/nowhere"}
    )
    assert (target.server, target.api_key, target.validate_certs) == ("https://h", TOKEN, False)


def test_a_file_that_is_not_there():
    message = refusal({"kubeconfig": "/no/such/file"})
    assert message.startswith("the kubeconfig /no/such/file, named by the inventory, does not exist.") and "`make lab`" in message


@pytest.mark.parametrize(
    "text",
    [
        f"{TOKEN}",
        f"token: {TOKEN}",
        f"{{ {TOKEN}: [",
        f"- {TOKEN}",
        f"clusters: {TOKEN}",
        f"clusters: [{{name: {TOKEN}}}]\ncontexts: []",
        "",
    ],
)
def test_a_file_that_is_no_kubeconfig_is_named_and_not_quoted(kubeconfig, text):
    path = kubeconfig("vault", text=text)
    assert refusal({"kubeconfig": path}) == f"{path}, named by the inventory, is not a kubeconfig."


def test_a_binary_file_and_a_folder(tmp_path):
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    assert "is not a kubeconfig" in refusal({"kubeconfig": str(tmp_path / "binary")})
    assert "cannot be read: Is a directory" in refusal({"kubeconfig": str(tmp_path)})


def test_an_unknown_context_lists_those_there(kubeconfig):
    message = refusal({"kubeconfig": kubeconfig("k"), "context": "lba"})
    assert "has no context 'lba'. It has: lab." in message
    without = kubeconfig("k", text=KUBECONFIG.format(server="https://a", context="lab").replace("current-context: lab", ""))
    assert "has no current context, and none was named. It has: lab." in refusal({"kubeconfig": without})
    assert "names no API server" in refusal(
        {"kubeconfig": kubeconfig("k", text="{current-context: a, contexts: [{name: a, context: }], clusters: }")}
    )


def test_of_several_files_the_first_wins_as_it_does_for_the_connection(kubeconfig):
    first, second = kubeconfig("first"), kubeconfig("second", "https://b:1")
    for paths, server in ((first, second), "https://a:6443"), ((second, first), "https://b:1"):
        target = _cluster.resolve({}, {"KUBECONFIG": os.pathsep.join((*paths, "/nowhere", ""))})
        assert target.server == server == _cluster.connect(target).configuration.host


def test_a_file_without_clusters_beside_others_is_no_error(kubeconfig):
    emptied = kubeconfig("emptied", text="apiVersion: v1\nkind: Config\nclusters: null\ncontexts: []\n")
    assert _cluster.resolve({"kubeconfig": emptied + os.pathsep + kubeconfig("k")}, {}).server == "https://a:6443"


def test_the_key_is_not_shown(kubeconfig):
    target = _cluster.resolve({"host": "https://h", "api_key": TOKEN}, {})
    assert TOKEN not in repr(target) + repr(target.public()) and "api_key" not in target.public()
    assert target.public()["server"] == "https://h"


def test_the_key_is_what_the_server_gets():
    with FakeCluster() as server:
        target = _cluster.resolve({"host": server.url, "api_key": TOKEN, "validate_certs": False}, {})
        api = _cluster.connect(target)
        assert _cluster.version(api, target) == "v1.35.4"
        assert api.configuration.get_api_key_with_prefix("authorization") == f"Bearer {TOKEN}" and not api.configuration.verify_ssl


def test_a_kubeconfig_whose_data_is_broken_is_named_and_not_quoted(kubeconfig):
    text = KUBECONFIG.format(server="https://a:1", context="lab").replace("cluster: {", f"cluster: {{certificate-authority-data: '{TOKEN}1', ")
    path = kubeconfig("k", text=text)
    target = _cluster.resolve({"kubeconfig": path}, {}, "the inventory")
    with pytest.raises(_cluster.ClusterError) as raised:
        _cluster.connect(target)
    assert str(raised.value) == f"the context 'lab' of {path}, named by the inventory, cannot be used."


def test_a_server_that_refuses_or_does_not_answer_is_named():
    with FakeCluster() as server:
        server.answers["/version/"] = 401
        target = _cluster.resolve({"host": server.url}, {}, "the inventory")
        with pytest.raises(_cluster.ClusterError, match=r"named by the inventory, refused the request: 401 .*Check the credentials"):
            _cluster.version(_cluster.connect(target), target)
    with pytest.raises(_cluster.ClusterError, match=r"named by the inventory, does not answer \(NewConnectionError\).*make lab"):
        _cluster.version(_cluster.connect(target), target)
