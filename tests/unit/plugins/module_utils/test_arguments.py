# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pathlib

import pytest
from ansible_collections.mlserving.triton.plugins.module_utils import _arguments

ROOT = pathlib.Path(__file__).parents[4]
BOOK = _arguments.load(ROOT)
INTERNAL = _arguments.words(ROOT, _arguments.prefixes(BOOK))


def look(playbook="deploy", extra=(), **inventory):
    """Return (what must be corrected, what may be a mistake) of extra variables and those of the inventory."""
    values = inventory | dict(extra)

    def render(name):
        if isinstance(values[name], str) and "{{" in values[name]:
            raise ValueError("undefined")
        return values[name]

    return _arguments.problems(BOOK, playbook, _arguments.Given(values, frozenset(dict(extra)), render), lambda: INTERNAL)


def wrong(playbook="deploy", **extra):
    found, doubtful = look(playbook, extra)
    assert doubtful == []
    return found


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("replicacount", "replicaCount"),
        ("replicaCont", "replicaCount"),
        ("ReplicaCount", "replicaCount"),
        ("replica_count", "replicaCount"),
        ("triton_replica", "triton_replicas"),
        ("triton_replicas_", "triton_replicas"),
        ("triton_service_typ", "triton_service_type"),
        ("triton_ouput", "triton_output"),
        ("model_repository_uri", "model_repository_url"),
        ("name_space", "namespace"),
        ("imageName", "image.imageName"),
        ("numgpus", "image.numGpus"),
        ("servce", "service"),
    ],
)
def test_a_misspelt_name_is_told_with_the_right_one(name, meant):
    assert wrong(**{name: "4"}) == [f"{name} (on the command line) is no variable of this collection. Did you mean {meant}?"]


def test_a_name_with_our_prefix_that_is_like_none():
    assert wrong(triton_xyzzy=1) == ["triton_xyzzy (on the command line) is no variable of this collection. docs/variables.md lists all."]
    # Inventories are shared, and some of the prefixes are common words.
    assert look(lab_colour="blue") == ([], ["lab_colour (in the inventory) is no variable of this collection. docs/variables.md lists all."])


def test_what_the_inventory_misspells_is_an_error_too():
    assert look(triton_replica=4, replicacount=4)[0] == [
        "triton_replica (in the inventory) is no variable of this collection. Did you mean triton_replicas?",
        "replicacount (in the inventory) is no variable of this collection. Did you mean replicaCount?",
    ]
    assert look(images=[], services={}, replica="x", names=[]) == ([], [])


@pytest.mark.parametrize(
    "name",
    [
        "foo",
        "env_name",
        "awx_job_id",
        "tower_user_name",
        "ansible_user",
        "__triton_x",
        "_triton_x",
        "triton_preflight",
        "triton_chart_map",
        "k8s_host",
    ],
)
def test_what_is_none_of_ours_or_made_by_us_is_left_alone(name):
    assert wrong(**{name: "1"}) == []


def test_what_other_playbooks_and_roles_take_is_left_alone():
    assert wrong("status", lab_workers=1, model_repository_keep=2, model="x", concurrency=4) == []


def test_a_name_that_another_variable_uses_is_no_mistake():
    used = {"triton_replicas": "{{ replicacount | int + triton_lab.replicas }}", "other": [{"deep": "{{ triton_labb }}"}]}
    assert look(extra={"replicacount": 2}, **used, triton_lab={}, triton_labb="x") == ([], [])
    # An attribute of that name is not the variable.
    assert look(extra={"numGpus": 2}, triton_gpus="{{ image.numGpus }}")[0]


def test_a_name_of_an_inventorys_own_may_be_somewhat_like_ours():
    # As where what used it was replaced on the command line.
    found = look(triton_lab_credentials="x")
    assert found[0] == [] and "triton_lab_credentials (in the inventory) is no variable of this collection" in found[1][0]
    assert look(triton_cloud_credential="x")[0] and look(extra={"triton_lab_credentials": "x"})[0]


def test_a_variable_without_its_prefix_gives_a_warning():
    assert look(extra={"replicas": 4}) == ([], ["replicas (on the command line) sets nothing. Did you mean triton_replicas?"])
    assert look(replicas=4) == ([], [])
    assert look(extra={"env": "prod", "state": "x"}) == ([], [])
    assert look("benchmark", extra={"model": "x", "port": 1, "report_dir": "x"}) == ([], [])


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("image.imageName", 'Write -e \'{"image": {"imageName": ...}}\', or put it into a file: -e @config.yaml.'),
        ("image.imagename", 'Write -e \'{"image": {"imageName": ...}}\', or put it into a file: -e @config.yaml.'),
        ("image.tag", "Those of the public chart are image.imageName, "),
    ],
)
def test_dotted_names_set_nothing(key, says):
    (problem,) = wrong(**{key: "x"})
    assert problem.startswith(f"{key} (on the command line): a name with dots sets nothing. {says}")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"image": {"imagename": "x"}}, "image.imagename is not known. Did you mean image.imageName?"),
        (
            {"image": {"tag": "x"}},
            "image.tag is not known. image has the keys imageName, pullPolicy, modelRepositoryPath, modelRepositoryServer, numGpus.",
        ),
        (
            {"image": "x"},
            "image is 'x'; allowed is a mapping, with the keys imageName, pullPolicy, modelRepositoryPath, modelRepositoryServer, numGpus.",
        ),
        ({"image": {"numGpus": "one"}}, "image.numGpus is 'one'; allowed is a whole number."),
        ({"secret": {"regoin": "x"}}, "secret.regoin is not known. Did you mean secret.region?"),
        ({"secret": "hidden"}, "secret is of another form; allowed is a mapping, with the keys region, id, key."),
        ({"serverArgs": "--log-verbose=1"}, "serverArgs is '--log-verbose=1'; allowed is a list."),
        ({"replicaCount": "four"}, "replicaCount is 'four'; allowed is a whole number."),
        ({"replicaCount": 2.5}, "replicaCount is 2.5; allowed is a whole number."),
        ({"triton_poll_seconds": "soon"}, "triton_poll_seconds is 'soon'; allowed is a whole number."),
        ({"triton_front": "maybe"}, "triton_front is 'maybe'; allowed is true or false."),
        ({"triton_output": "xml"}, "triton_output is 'xml'; allowed is one of text, json."),
        ({"triton_rollout": "big_bang"}, "triton_rollout is 'big_bang'; allowed is one of surge, in_place."),
        (
            {"triton_front_public": ["inference", "all"]},
            "triton_front_public is 'all'; allowed is one of inference, metadata, statistics, model-config, ",
        ),
        ({"triton_cloud_credentials": "hidden"}, "triton_cloud_credentials is of another form; allowed is a mapping."),
    ],
)
def test_a_value_of_the_wrong_form(given, says):
    (problem,) = wrong(**given)
    assert problem.startswith(says)
    assert "hidden" not in problem


def test_values_as_people_and_controllers_write_them():
    good = {
        "replicaCount": "4",
        "image": {"numGpus": "0", "imageName": "a:b"},
        "secret": {"id": "eA=="},
        "triton_front": "yes",
        "triton_drain_seconds": "",
    }
    assert (
        wrong(**good, triton_load_models="a,b", triton_node_selector='{"a": "b"}', triton_output="json", serverArgs=["--x"], triton_gpus=None) == []
    )
    assert wrong("benchmark", model="simple", protocols="http", concurrency="1,2", seconds="0.5") == []


def test_a_value_that_cannot_be_told_yet_is_left_to_what_uses_it():
    assert wrong(triton_poll_seconds="{{ undefined }}") == []


def test_what_a_playbook_needs():
    assert wrong("scale") == ["Say -e replicaCount=VALUE or -e triton_replicas=VALUE."]
    assert wrong("scale", triton_replicas=0) == wrong("scale", replicaCount="2") == []
    assert wrong("classify") == ["Say -e image=VALUE. File of the picture.", "Say -e model=VALUE. Name of the model."]
    assert wrong("classify", image="x.png", model="simple") == []
    assert wrong("classify", image="x.png", modle="simple")[0].endswith("Did you mean model?")


def test_tags_that_take_away_what_is_needed():
    assert _arguments.left_out("deploy", ["model_repository"], "release")
    assert _arguments.left_out("deploy", ["model_repository"], "in_place") == _arguments.left_out("deploy", [], "release") == []


def given(extra=(), **inventory):
    values = inventory | dict(extra)
    return _arguments.Given(values, frozenset(dict(extra)), values.__getitem__)


def test_what_is_assumed():
    default, inventory = _arguments.assumed(
        BOOK, "deploy", given({"image": {"numGpus": 0}, "namespace": "team"}, triton_image="a:b", triton_release="example")
    )
    assert default == {
        "triton_release": "example",
        "triton_replicas": 1,
        "triton_service_type": "LoadBalancer",
        "model_repository_url": "s3://triton-inference-server-repository/model_repository",
    }
    assert inventory == {"triton_image": "a:b"}
    assert "model_repository_url" not in _arguments.assumed(BOOK, "deploy", given(triton_model_volume={"nfs": {}}))[0]


def test_every_playbook_has_an_entry():
    files = {path.stem for path in (ROOT / "playbooks").glob("*.yml")}
    assert files == set(BOOK["playbooks"]), (
        "playbooks/vars/arguments.yml says what each playbook takes: add an entry under playbooks with description, roles, chart and, for variables of the "
        "playbook's own, options; then begin the playbook with tasks/preflight.yml, tasks/chart_values.yml or triton_arguments, and end it with triton_summary."
    )


@pytest.mark.parametrize("playbook", BOOK["playbooks"])
def test_an_entry_is_whole(playbook):
    entry = BOOK["playbooks"][playbook]
    assert set(entry) <= {"description", "roles", "chart", "options", "required_one_of", "assumes"}
    assert entry["description"] and isinstance(entry["chart"], bool)
    assert [role for role in entry["roles"] if not (ROOT / "roles" / role).is_dir()] == []
    options = _arguments.taken(BOOK, playbook)
    assert [name for names in entry.get("required_one_of", []) for name in names if name not in _all_options()] == []
    assert [name for name in entry.get("assumes", []) if name not in options] == []
    for name, option in options.items():
        assert option["description"] and option["type"], name
        assert (
            "default" not in option
            or option["default"] is None
            or not _arguments.check(name, option, option["default"])
            or "{{" in str(option["default"])
        )


def _all_options():
    return {name for playbook in BOOK["playbooks"] for name in _arguments.taken(BOOK, playbook)}


@pytest.mark.parametrize("playbook", BOOK["playbooks"])
def test_a_playbook_checks_what_it_was_given_and_sums_up(playbook):
    text = (ROOT / "playbooks" / f"{playbook}.yml").read_text(encoding="utf-8")
    assert any(word in text for word in ("tasks/preflight.yml", "tasks/chart_values.yml", "mlserving.triton.triton_arguments"))
    assert "mlserving.triton.triton_summary" in text
    assert "tags:" in text


def test_the_charts_keys_are_those_that_are_read():
    text = (ROOT / "playbooks" / "group_vars" / "all" / "chart.yml").read_text(encoding="utf-8")
    options = BOOK["chart"]["options"]
    inner = [(key, option["sets"]) for outer in options.values() for key, option in outer.get("options", {}).items()]
    for key, sets in inner + [(key, option["sets"]) for key, option in options.items() if "sets" in option]:
        assert key in text and sets in text
