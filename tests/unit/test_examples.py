# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The parts of examples/imagenet that need neither a network nor a server."""

from __future__ import annotations

import collections
import importlib.util
import io
import pathlib
import pickle
import struct
import subprocess
import sys
import types

import numpy
import pytest
from ansible_collections.mlserving.triton.plugins.module_utils import _cases, _verify
from PIL import Image

EXAMPLE = pathlib.Path(__file__).parents[2] / "examples" / "imagenet"
MODELS = EXAMPLE / "models"


def load(path: pathlib.Path):
    spec = importlib.util.spec_from_file_location(f"example_{path.parent.parent.name}_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


network = load(EXAMPLE / "build" / "network.py")
torch_file = load(EXAMPLE / "build" / "torch_file.py")
classify = load(EXAMPLE / "classify.py")


@pytest.fixture
def builder():
    return load(EXAMPLE / "build" / "__main__.py")


# The weights' file


class FloatStorage:
    """Stands for torch's class of that name in a pickle."""


class Tensor:
    def __init__(self, key, count, offset, shape, strides):
        self.key, self.count, self.view = key, count, (offset, shape, strides)

    def __reduce__(self):
        return sys.modules["torch._utils"]._rebuild_tensor_v2, (Reference(self.key, self.count), *self.view, False, collections.OrderedDict())


class Reference:
    def __init__(self, key, count):
        self.key, self.count = key, count


class Pickler(pickle.Pickler):
    def persistent_id(self, obj):
        return ("storage", FloatStorage, obj.key, "cpu", obj.count, None) if isinstance(obj, Reference) else None


def _rebuild_tensor_v2():
    """Stands for torch's function of that name in a pickle."""


@pytest.fixture
def torch(monkeypatch):
    """Make the two names above look like torch's to pickle."""
    for module, member in (("torch", FloatStorage), ("torch._utils", _rebuild_tensor_v2)):
        made = types.ModuleType(module)
        setattr(made, member.__name__, member)
        monkeypatch.setitem(sys.modules, module, made)
        monkeypatch.setattr(member, "__module__", module)


def weights_file(state, storages, magic=torch_file.MAGIC) -> io.BytesIO:
    stream = io.BytesIO()
    for part in (magic, torch_file.PROTOCOL, {"little_endian": True}, state, list(storages)):
        Pickler(stream, protocol=2).dump(part)
    for values in storages.values():
        stream.write(struct.pack("<q", len(values)) + numpy.array(values, "<f4").tobytes())
    stream.seek(0)
    return stream


def test_tensors_are_read_as_views_of_their_storages(torch):
    state = collections.OrderedDict(straight=Tensor("7", 6, 0, (2, 3), (3, 1)), turned=Tensor("7", 6, 0, (2, 3), (1, 2)), end=Tensor("8", 3, 1, (2,), (1,)))
    read = torch_file.read(weights_file(state, {"7": [0, 1, 2, 3, 4, 5], "8": [6, 7, 8]}))
    assert {name: array.tolist() for name, array in read.items()} == {"straight": [[0, 1, 2], [3, 4, 5]], "turned": [[0, 2, 4], [1, 3, 5]], "end": [7, 8]}


@pytest.mark.parametrize("thing", [print, pathlib.PurePosixPath, subprocess.Popen])
def test_a_weights_file_can_name_nothing_but_tensors(thing):
    with pytest.raises(torch_file.FormatError, match=rf"names \S+\.{thing.__name__}, which is no part"):
        torch_file.read(weights_file(thing, {}))


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda data: b"", "damaged"),
        (lambda data: data[:-4], "should hold 2 elements; 4 bytes"),
        (lambda data: data[:-12], "damaged"),
        (lambda data: pickle.dumps(1) + data, "does not begin"),
    ],
)
def test_a_damaged_weights_file_is_refused(torch, change, message):
    data = weights_file({"a": Tensor("7", 2, 0, (2,), (1,))}, {"7": [1, 2]}).getvalue()
    with pytest.raises(torch_file.FormatError, match=message):
        torch_file.read(io.BytesIO(change(data)))


# The network


class Weights:
    """Every tensor of the network, in a shape that broadcasts. ``asked`` are the names that were asked for."""

    def __init__(self):
        self.asked = set()

    def __getitem__(self, name):
        self.asked.add(name)
        return numpy.ones((1, 1, 1, 1) if "_conv" in name else (1,), numpy.float32)


@pytest.fixture
def graph():
    return network.build(Weights())


def test_the_table_gives_the_whole_graph(graph):
    kinds = collections.Counter(node.operation for node in graph.nodes)
    assert kinds == {"Conv": 49, "Clip": 33, "Add": 9, "GlobalAveragePool": 1, "Flatten": 1, "Gemm": 1, "Softmax": 1}
    assert (len(graph.nodes), graph.size, graph.last) == (95, 7, "output")
    # 16 blocks with three convolutions, of which the first has no expansion; stem and head; each with four tensors of its norm.
    assert len(graph.weights.asked) == 49 * 5 + 2


def test_every_input_of_a_node_is_there_before_it(graph):
    known = {"input", *graph.constants}
    for node in graph.nodes:
        assert set(node.inputs) <= known, node.name
        known.add(node.output)


@pytest.mark.parametrize(
    "name, before, after",
    [("stem", 0, 1), ("b0.dw", 1, 1), ("b1.dw", 0, 1), ("b3.dw", 1, 2), ("b5.dw", 0, 1), ("b8.dw", 2, 2), ("b11.dw", 1, 2), ("b15.dw", 1, 1)],
)
def test_the_padding_is_that_of_the_training(graph, name, before, after):
    (node,) = [node for node in graph.nodes if node.output == name]
    assert node.attributes["pads"] == [before, before, after, after]


def test_each_channel_is_filtered_by_itself(graph):
    groups = {node.output: node.attributes["group"] for node in graph.nodes if node.operation == "Conv"}
    assert [groups[name] for name in ("stem", "b0.dw", "b1.dw", "b2.dw", "b15.dw", "b15.project")] == [1, 32, 96, 144, 1152, 1]


def test_batch_normalisation_is_folded_into_the_convolution(graph):
    assert graph.constants["stem.w"].item() == pytest.approx(1 / (1 + network.EPSILON) ** 0.5)
    assert graph.constants["stem.b"].item() == pytest.approx(1 - 1 / (1 + network.EPSILON) ** 0.5)
    assert graph.constants["stem.w"].dtype == graph.constants["stem.b"].dtype == numpy.float32


# The builder


def test_a_label_is_the_first_of_a_classs_names(builder):
    assert builder.labels({"1": "cock", "0": "tench, Tinca tinca"}) == b"tench\ncock\n"


def test_what_is_there_and_right_is_not_built_again(builder, monkeypatch, tmp_path):
    monkeypatch.setattr(builder, "SHA256", {name: builder.sha256(b"right") for name in ("a", "b", "c")})
    (tmp_path / "a").write_bytes(b"right")
    (tmp_path / "b").write_bytes(b"cut of")
    assert builder.missing(tmp_path) == ["b", "c"]


def test_only_the_expected_content_is_written(builder, monkeypatch, tmp_path):
    monkeypatch.setattr(builder, "EXAMPLE", tmp_path)
    monkeypatch.setattr(builder, "SHA256", {"folder/a": builder.sha256(b"right")})
    with pytest.raises(builder.BuildError, match=r"folder/a came out with the sha256 \w{64}, expected"):
        builder.write("folder/a", b"wrong")
    builder.write("folder/a", b"right")
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["a"]


def test_wheels_in_the_cache_are_known_by_their_content(builder, tmp_path):
    (tmp_path / "some_thing-1-py3-none-any.whl").write_bytes(b"right")
    listed = f"# why\nsome-thing==1 --hash=sha256:{builder.sha256(b'right')}\n"
    assert builder.wheels(listed, tmp_path) == {"some_thing": tmp_path / "some_thing-1-py3-none-any.whl"}
    assert builder.wheels(f"{listed}other==1 --hash=sha256:{'0' * 64}\n", tmp_path) == {}


def test_no_network_is_said_in_a_sentence(builder, monkeypatch, tmp_path):
    monkeypatch.setattr(builder, "CACHE", tmp_path / "cache")
    done = subprocess.CompletedProcess([], 1, "", "WARNING: Retrying\nERROR: No matching distribution found for scikit-image==0.26.0\n")
    monkeypatch.setattr(builder.subprocess, "run", lambda *_arguments, **_options: done)
    monkeypatch.setattr(builder, "missing", lambda _folder: [builder.PICTURE_FILE])
    with pytest.raises(SystemExit, match=r"was not built: pip could not fetch build/wheels.txt: ERROR: No matching distribution .* in reach"):
        builder.main()


# The models


class Response:
    def __init__(self, output_tensors=(), error=None):
        self.outputs = {tensor.name: tensor.array for tensor in output_tensors}
        self.error = error


class Refusal(Exception):
    INVALID_ARG = "invalid"


class Named:
    def __init__(self, name, array):
        self.name, self.array = name, array

    def as_numpy(self):
        return self.array


@pytest.fixture
def model(monkeypatch):
    """Load a model's model.py; a request to it is a dict of arrays by input name."""
    backend = types.ModuleType("triton_python_backend_utils")
    backend.Tensor, backend.InferenceResponse, backend.TritonError = Named, Response, Refusal
    backend.get_input_tensor_by_name = lambda request, name: Named(name, request[name])
    monkeypatch.setitem(sys.modules, backend.__name__, backend)
    monkeypatch.setitem(sys.modules, "onnxruntime", types.ModuleType("onnxruntime"))
    return lambda name: load(MODELS / name / "1" / "model.py")


def picture(*size, colour=(255, 127, 0)) -> Image.Image:
    return Image.new("RGB", size, colour)


def encoded(image: Image.Image, form="PNG") -> bytes:
    stream = io.BytesIO()
    image.save(stream, form)
    return stream.getvalue()


def framed() -> Image.Image:
    """Return a picture whose looked-at middle is orange, within a black frame."""
    image = picture(512, 256, colour=(0, 0, 0))
    image.paste(picture(224, 224), (144, 16))
    return image


def test_the_middle_of_a_picture_becomes_numbers_about_zero(model):
    pixels = model("image_preprocess").pixels(framed())
    assert (pixels.shape, pixels.dtype) == ((3, 224, 224), numpy.float32)
    assert [numpy.unique(channel).tolist() for channel in pixels] == [[1.0], [0.0], [-127 / 128]]


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (600, 400), (224, 224)])
def test_the_client_prepares_a_picture_as_the_model_does(model, size):
    image = Image.fromarray(numpy.random.default_rng(7).integers(0, 256, (*size[::-1], 3), numpy.uint8))
    assert (classify.pixels(image, (224, 224), "TRAINED").transpose(2, 0, 1) == model("image_preprocess").pixels(image)).all()


@pytest.mark.parametrize(
    "data, message",
    [
        (b"", r"IMAGE \(0 bytes\) cannot be read as a picture: its format is unknown\. Send a whole JPEG or PNG file"),
        (b"no picture", "its format is unknown"),
        (encoded(framed(), "JPEG")[:-100], "image file is truncated"),
        (encoded(framed(), "GIF"), "its format is unknown"),
        (encoded(picture(80, 80)), "IMAGE has 80 x 80 pixels; at most 6000 are taken"),
    ],
)
def test_what_is_no_picture_is_refused_in_words(model, monkeypatch, data, message):
    preprocess = model("image_preprocess")
    if "pixels" in message:
        monkeypatch.setattr(preprocess, "MOST_PIXELS", 6000)
    with pytest.raises(ValueError, match=message):
        preprocess.decode(data)


def test_a_bad_picture_fails_its_own_request_only(model):
    good, bad = ({"IMAGE": numpy.array([[data]], dtype=object)} for data in (encoded(picture(9, 9)), b"no picture"))
    first, second, third = model("image_preprocess").TritonPythonModel().execute([good, bad, good])
    assert first.error is third.error is None and first.outputs["PIXELS"].shape == (1, 3, 224, 224)
    assert second.error.args[1] == "invalid" and "IMAGE (10 bytes)" in second.error.args[0]


def test_the_highest_scores_come_first_and_of_equal_ones_the_first():
    scores = numpy.array([[0.1, 0.4, 0.4, 0.05], [0.7, 0.1, 0.0, 0.2]], numpy.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "triton_python_backend_utils", types.ModuleType("triton_python_backend_utils"))
        columns, best = load(MODELS / "image_labels" / "1" / "model.py").top(scores, 3)
    assert columns.tolist() == [[1, 2, 0], [0, 3, 1]]
    assert best.tolist() == numpy.float32([[0.4, 0.4, 0.1], [0.7, 0.2, 0.1]]).tolist()


def test_labels_come_from_the_models_own_folder(model, tmp_path):
    (tmp_path / "labels.txt").write_text("tench\ngreat white shark\nhammerhead\n", encoding="utf-8")
    labeller = model("image_labels").TritonPythonModel()
    labeller.initialize({"model_repository": str(tmp_path), "model_config": '{"parameters": {"top": {"string_value": "2"}}}'})
    (response,) = labeller.execute([{"SCORES": numpy.float32([[0.1, 0.7, 0.2]])}])
    assert response.outputs["LABEL"].tolist() == [["great white shark", "hammerhead"]]


def test_requests_are_classified_together_and_answered_one_by_one(model):
    runs = []
    network_model = model("efficientnet_lite0").TritonPythonModel()
    network_model.session = types.SimpleNamespace(run=lambda _outputs, inputs: [runs.append(len(inputs["input"])) or inputs["input"] * 2])
    batches = [numpy.float32([[1]]), numpy.float32([[2], [3]]), numpy.float32([[4]])]
    responses = network_model.execute([{"input": batch} for batch in batches])
    assert runs == [4]
    assert [response.outputs["output"].tolist() for response in responses] == [[[2]], [[4], [6]], [[8]]]


def test_the_models_cases_can_be_sent(model):
    cases = {case.model: case for case in _verify.prepare(_cases.read(str(MODELS)))}
    assert set(cases) == {path.parent.name for path in MODELS.glob("*/config.pbtxt")}
    _datatype, images = cases["image_classifier"].inputs["IMAGE"]
    assert model("image_preprocess").decode(images.item()).size == (8, 8)


# The client


@pytest.mark.parametrize("scaling, expected", [("NONE", [255, 127, 0]), ("INCEPTION", [1, -0.5 / 127.5, -1]), ("VGG", [132, 10, -104])])
def test_a_scaling_is_that_of_tritons_image_client(scaling, expected):
    pixels = classify.pixels(picture(30, 20), (4, 6), scaling)
    assert (pixels.shape, pixels.dtype) == ((4, 6, 3), numpy.float32)
    assert pixels == pytest.approx(numpy.broadcast_to(numpy.float32(expected), (4, 6, 3)))


def test_but_for_the_trained_one_the_whole_picture_is_squeezed():
    assert classify.pixels(framed(), (224, 224), "NONE")[0, 0].tolist() == [0, 0, 0]
    assert classify.pixels(framed(), (224, 224), "TRAINED")[0, 0].tolist() == [1, 0, -127 / 128]


def test_pictures_become_a_batch_as_the_model_wants_it(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(encoded(picture(30, 20)))
    paths = [str(path)] * 2
    assert classify.tensor(paths, {"datatype": "FP32", "shape": ["-1", "3", "4", "6"]}, True, "NONE").shape == (2, 3, 4, 6)
    assert classify.tensor(paths, {"datatype": "FP32", "shape": [-1, 4, 6, 3]}, False, "NONE").shape == (2, 4, 6, 3)
    assert classify.tensor(paths, {"datatype": "BYTES", "shape": [-1, 1]}, True, "NONE").tolist() == [[path.read_bytes()]] * 2


def test_answers_are_printed_as_tritons_image_client_does():
    assert classify.lines([b"0.902394:967:espresso", b"0.012998:504:coffee: mug"]) == ["    0.902394 (967) = espresso", "    0.012998 (504) = coffee: mug"]
    assert classify.labelled_lines([b"espresso"], numpy.float32([0.951125])) == ["    0.951125 = espresso"]


@pytest.mark.parametrize("given, url", [([], "localhost:8000"), (["-i", "GRPC"], "localhost:8001"), (["-u", "10.0.0.1:80"], "10.0.0.1:80")])
def test_the_options_are_those_of_tritons_image_client(given, url):
    chosen = classify.arguments([*given, "-m", "some", "-s", "INCEPTION", "-c3", "mug.jpg"])
    assert (chosen.url, chosen.model, chosen.scaling, chosen.classes, chosen.images) == (url, "some", "INCEPTION", 3, ["mug.jpg"])
