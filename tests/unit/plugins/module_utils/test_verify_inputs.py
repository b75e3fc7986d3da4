# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
import struct
import sys

import numpy
import pytest
from PIL import Image

from ansible_collections.mlserving.triton.plugins.module_utils import _tensors, _verify_inputs

WHERE = "the case of model m, input A"
#: Nothing is resized at this size, so that the pixels stay known.
PICTURE = numpy.array([[[0, 50, 255], [123, 117, 104]], [[1, 2, 3], [4, 5, 6]]], "uint8")


def build(folder=".", metadata=None, **tensor):
    return _verify_inputs.build({"name": "A"} | tensor, metadata, str(folder), WHERE)


def model(datatype="FP32", shape=(-1, 3)):
    return {"name": "m", "inputs": [{"name": "B", "datatype": "BOOL", "shape": [1]}, {"name": "A", "datatype": datatype, "shape": list(shape)}]}


def file(folder, name, content):
    path = folder / name
    if isinstance(content, numpy.ndarray):
        numpy.save(path, content, allow_pickle=True)
    else:
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return name


def picture(folder, pixels=PICTURE, name="a.png"):
    Image.fromarray(pixels).save(folder / name)
    return name


def refusal(*words, folder=".", metadata=None, **tensor):
    with pytest.raises(_tensors.CaseError) as caught:
        build(folder, metadata, **tensor)
    assert str(caught.value).startswith(WHERE)
    assert [word for word in words if word not in str(caught.value)] == []


@pytest.mark.parametrize(
    ("tensor", "needed"),
    [({"datatype": "INT8", "shape": [1]}, False), ({"datatype": "INT8", "shape": []}, False), ({"datatype": "INT8"}, True), ({"shape": [1]}, True)],
)
def test_the_metadata_is_needed_for_what_is_not_given(tensor, needed):
    assert _verify_inputs.needs_metadata(tensor) is needed


@pytest.mark.parametrize(
    ("tensor", "metadata", "values"),
    [
        ({"data": [1, "2", 3]}, model(), [[1, 2, 3]]),
        ({"data": [[1, 2, 3], [4, 5, 6]]}, model(), [[1, 2, 3], [4, 5, 6]]),
        ({"data": [7], "shape": [2, 3]}, model(), [[7, 7, 7], [7, 7, 7]]),
        ({"data": [7], "shape": [2, -1]}, model(), [[7, 7, 7], [7, 7, 7]]),
        ({"data": [1, 2]}, model(shape=["-1"]), [1, 2]),
        ({"data": ["x"]}, model("BYTES", [1]), [b"x"]),
        ({"data": [0.5, 2], "datatype": "BF16", "shape": [2]}, None, [0.5, 2]),
        ({"fill": "ones", "data": None, "file": None}, model(shape=[-1, -1, 2]), [[[1, 1]]]),
    ],
)
def test_what_is_left_out_comes_from_the_metadata(tensor, metadata, values):
    datatype, array = build(metadata=metadata, **tensor)
    assert datatype == (tensor.get("datatype") or metadata["inputs"][1]["datatype"]) and array.tolist() == values


@pytest.mark.parametrize(
    ("tensor", "metadata", "words"),
    [
        ({}, model(), ("it has no values", "data, file, fill")),
        ({"data": [1], "fill": "ones"}, model(), ("data and fill", "exactly one")),
        ({"data": [1], "datatype": "INT8"}, None, ("Give the input's datatype and shape",)),
        ({"data": [1], "shape": [1]}, None, ("Give the input's datatype and shape",)),
        ({"data": [1]}, {"inputs": [{"name": "X"}]}, ("no input A", "its inputs are: X")),
        ({"data": [1], "datatype": "INT8"}, model(), ("datatype is INT8", "the model takes FP32")),
        ({"data": [1], "datatype": "FLOAT", "shape": [1]}, None, ("'FLOAT'", "FP32")),
        ({"data": [1], "shape": [3]}, model(), ("shape is [3]", "the model takes [-1, 3]")),
        ({"data": [1], "shape": [2, 4]}, model(), ("shape is [2, 4]", "the model takes [-1, 3]")),
        ({"data": [1], "shape": [-2, 3]}, model(), ("[-2, 3]", "from 0")),
        ({"data": [1], "shape": ["x", 3]}, model(), ("['x', 3]",)),
        ({"data": [1, 2]}, model(), ("shape [1, 3] holds 3 values, data has 2",)),
        ({"data": ["x"]}, model("BF16"), ("'x' is not a value", "BF16 is written as FP32")),
        ({"data": [10**400]}, model(), ("does not fit into FP32",)),
        ({"data": [300]}, model("INT8"), ("does not fit into INT8",)),
        ({"data": {"x": 1}}, model(), ("dict", "Write a list")),
        ({"fill": "ones", "shape": [10**6, 10**6], "datatype": "INT8"}, None, ("[1000000, 1000000]", "smaller shape")),
        ({"fill": "twos"}, model(), ("'twos'", "zeros, ones, random")),
        ({"fill": "random", "seed": -1}, model(), ("seed is -1", "4294967295")),
        ({"fill": "random", "seed": "x"}, model(), ("seed is 'x'",)),
        ({"fill": "ones", "scaling": "VGG"}, model(), ("VGG", ".png", "Remove scaling")),
        ({"fill": "ones", "scaling": "TRAINED"}, model(), ("'TRAINED'", "NONE, INCEPTION, VGG")),
    ],
)
def test_an_input_that_cannot_be_built_is_named(tensor, metadata, words):
    refusal(*words, metadata=metadata, **tensor)


@pytest.mark.parametrize("datatype", _verify_inputs.DTYPES)
@pytest.mark.parametrize("shape", [[], [0], [40, 50]])
def test_every_type_can_be_filled(datatype, shape):
    zeros, ones, drawn, again, other = (
        build(datatype=datatype, shape=shape, fill=fill, seed=seed)[1]
        for fill, seed in (("zeros", None), ("ones", None), ("random", None), ("random", 0), ("random", 1))
    )
    for array in (zeros, ones, drawn):
        assert list(array.shape) == shape and array.dtype == _verify_inputs.DTYPES[datatype]
    assert drawn.tolist() == again.tolist()
    if not shape or 0 in shape:
        return
    assert drawn.tolist() != other.tolist()
    if datatype == "BYTES":
        assert set(zeros.flat) == {b""} and set(ones.flat) == {b"1"} and all(len(text) == 8 and text.isalpha() for text in drawn.flat)
        return
    assert not zeros.any() and (ones == 1).all()
    values = set(drawn.reshape(-1).tolist())
    if zeros.dtype.kind == "f":
        assert min(values) >= 0 and max(values) < 1 and len(values) > 200
    else:
        assert values == ({False, True} if datatype == "BOOL" else set(range(10)))


@pytest.mark.parametrize(
    ("datatype", "values"), [("INT32", [5, 7, 6, 5]), ("FP32", [140 / 256, 183 / 256, 154 / 256, 139 / 256]), ("BYTES", [b"ospolqlx", b"zjunoybc"])]
)
def test_a_seed_means_the_same_values_everywhere(datatype, values):
    assert build(datatype=datatype, shape=[len(values)], fill="random")[1].tolist() == values


@pytest.mark.parametrize(
    ("name", "content", "datatype", "shape", "values"),
    [
        ("a.npy", numpy.array([[1, 2], [3, 4]], "int64"), "INT8", [-1, 2], [[1, 2], [3, 4]]),
        ("a.npy", numpy.array([0.5, numpy.nan], ">f8"), "FP16", [2], [0.5, pytest.approx(numpy.nan, nan_ok=True)]),
        ("a.npy", numpy.array([1.0, -2.0]), "INT16", [2], [1, -2]),
        ("a.npy", numpy.array([2**24, 1]), "FP32", [2], [2**24, 1]),
        ("a.npy", numpy.array([0, 1], "uint8"), "BOOL", [2], [False, True]),
        ("a.npy", numpy.array([True]), "FP64", [1], [1.0]),
        ("a.npy", numpy.asfortranarray([[1, 2], [3, 4]], "int32"), "INT32", [2, 2], [[1, 2], [3, 4]]),
        ("a.npy", numpy.array(["é", "b"]), "BYTES", [2], ["é".encode(), b"b"]),
        ("a.npy", numpy.array([b"a"]), "BYTES", [-1], [b"a"]),
        ("A.JSON", [[1, 2], [3, 4]], "FP32", [-1, 2], [[1, 2], [3, 4]]),
        ("a.json", ["x", 1], "BYTES", [2], [b"x", b"1"]),
        ("a.txt", b"two\nlines\n\0", "BYTES", [-1, 1], [[b"two\nlines\n\0"]]),
        ("a.bin", struct.pack("<2h", 1, -2), "INT16", [2], [1, -2]),
        ("a.raw", b"\x80\x3f\x00\xc0", "BF16", [-1, 2], [[1, -2]]),
        ("a.bin", b"\0\1", "BOOL", [2], [False, True]),
        ("a.jpg", b"whatever", "BYTES", [2], [b"whatever", b"whatever"]),
    ],
)
def test_a_file_becomes_a_tensor(tmp_path, name, content, datatype, shape, values):
    kind, array = build(tmp_path, model(datatype, shape), file=file(tmp_path, name, content))
    assert kind == datatype and array.dtype == _verify_inputs.DTYPES[datatype] and array.flags.c_contiguous
    assert array.tolist() == values


@pytest.mark.parametrize(
    ("name", "content", "datatype", "words"),
    [
        ("a.npy", numpy.array([0.1, 1]), "FP32", ("float64", "FP32", "Save the array as float32")),
        ("a.npy", numpy.array([1e300, 1]), "FP32", ("without loss",)),
        ("a.npy", numpy.array([2**63 - 1, 1]), "FP64", ("without loss",)),
        ("a.npy", numpy.array([-1, 1]), "UINT64", ("int64 values do not fit into UINT64",)),
        ("a.npy", numpy.array([2**63, 1], "uint64"), "INT64", ("uint64 values do not fit",)),
        ("a.npy", numpy.array([0.5, 1]), "INT32", ("float64 values do not fit into INT32",)),
        ("a.npy", numpy.array([numpy.inf, 1]), "INT32", ("without loss",)),
        ("a.npy", numpy.array([2, 1]), "BOOL", ("without loss",)),
        ("a.npy", numpy.array([1, 2]), "BYTES", ("numpy S or U",)),
        ("a.npy", numpy.array(["1", "2"]), "INT32", ("<U1 values do not fit",)),
        ("a.npy", numpy.array([1j, 2]), "FP32", ("complex128",)),
        ("a.npy", numpy.array([1, 2, 3], "float32"), "FP32", ("its shape is [3]", "[2]")),
        ("a.npy", numpy.array([b"a", None]), "BYTES", ("cannot be read as .npy", "Object arrays")),
        ("a.npy", b"PK\3\4", "FP32", ("cannot be read as .npy",)),
        ("a.json", b"[1, 2", "FP32", ("cannot be read as .json",)),
        ("a.json", b"[" * 200000, "FP32", ("cannot be read as .json",)),
        ("a.json", b"\xff[1]", "FP32", ("cannot be read as .json",)),
        ("a.json", {"data": [1, 2]}, "FP32", ("dict", "Write a list")),
        ("a.json", ["x", None], "BYTES", ("holds None",)),
        ("a.json", [1, 2, 3], "FP32", ("shape [2] holds 2 values, data has 3",)),
        ("a.json", [1.5, 2], "INT8", ("1.5 is not a value of type INT8",)),
        ("a.txt", b"1 2", "INT8", ("one text", "INT8")),
        ("a.bin", b"123", "INT16", ("has 3 bytes", "shape [2] takes 4")),
        ("a.bin", b"\0\2", "BOOL", ("other than 0 and 1",)),
        ("a.bin", b"ab", "BYTES", (".txt",)),
        ("a.csv", b"1,2", "INT8", ("'.csv'", ".npy")),
        ("a", b"1,2", "INT8", ("extension ''",)),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path, name, content, datatype, words):
    refusal(str(tmp_path / name), *words, folder=tmp_path, metadata=model(datatype, [2]), file=file(tmp_path, name, content))


def test_files_that_are_not_there_or_too_large(tmp_path, monkeypatch):
    refusal("no such file", "relative to", folder=tmp_path, metadata=model(), file="none.npy")
    (tmp_path / "folder.npy").mkdir()
    refusal("no such file", folder=tmp_path, metadata=model(), file="folder.npy")
    with open(tmp_path / "large.bin", "wb") as stream:
        os.truncate(stream.fileno(), 64 * 2**20 + 1)
    refusal("larger than 64 MiB", folder=tmp_path, metadata=model(), file="large.bin")

    def forbidden(*_arguments):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", forbidden)
    refusal("cannot be opened: Permission denied", folder=tmp_path, metadata=model(), file="large.bin")


@pytest.mark.parametrize(
    ("datatype", "scaling", "shape", "values"),
    [
        ("UINT8", None, [2, 2, 3], PICTURE),
        ("FP32", "NONE", [-1, 3, 2, 2], PICTURE.transpose(2, 0, 1)[None]),
        ("FP32", "INCEPTION", [1, 2, 2, 3], (PICTURE[None].astype("float32") / 127.5) - 1),
        ("FP16", "VGG", [3, 2, 2], [[[-123, 0], [-122, -119]], [[-67, 0], [-115, -112]], [[151, 0], [-101, -98]]]),
        ("BF16", "VGG", [2, 2, 3], [[[-123, -67, 151], [0, 0, 0]], [[-122, -115, -101], [-119, -112, -98]]]),
        ("INT16", "NONE", [-1, -1, 3], PICTURE),
        ("FP32", "NONE", [2, 3, -1, -1], [PICTURE.transpose(2, 0, 1)] * 2),
    ],
)
def test_an_image_is_prepared_as_by_tritons_client(tmp_path, datatype, scaling, shape, values):
    _kind, array = build(tmp_path, model(datatype, shape), file=picture(tmp_path), scaling=scaling)
    assert array.dtype == _verify_inputs.DTYPES[datatype] and array.flags.c_contiguous and array.flags.writeable
    assert array.tolist() == numpy.array(values).astype(array.dtype).tolist()


@pytest.mark.parametrize(("scaling", "shift", "scale"), [("NONE", 0, 1), ("INCEPTION", 127.5, 127.5), ("VGG", 128, 1)])
def test_one_channel_is_grey_and_the_whole_picture_is_resized(tmp_path, scaling, shift, scale):
    pixels = numpy.random.RandomState(0).randint(0, 256, (20, 30, 3)).astype("uint8")
    _kind, array = build(tmp_path, model(shape=[-1, 1, 8, 9]), file=picture(tmp_path, pixels), scaling=scaling)
    grey = numpy.array(Image.fromarray(pixels).convert("L").resize((9, 8), Image.Resampling.BILINEAR), "float32")
    assert array.shape == (1, 1, 8, 9) and numpy.allclose(array[0, 0], (grey - shift) / scale, atol=1e-6)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "CMYK"])
def test_pictures_of_other_kinds_become_rgb(tmp_path, mode):
    name = "a.jpeg" if mode == "CMYK" else "a.png"
    Image.new(mode, (4, 4)).save(tmp_path / name)
    assert build(tmp_path, model("UINT8", [3, 2, 2]), file=name)[1].shape == (3, 2, 2)


@pytest.mark.parametrize(
    ("datatype", "shape", "scaling", "words"),
    [
        ("FP32", [4, 224, 224], "NONE", ("[4, 224, 224]", "C is 1 or 3")),
        ("FP32", [3, 224, 3], "NONE", ("[3, 224, 3]",)),
        ("FP32", [224, 224], "NONE", ("[224, 224]",)),
        ("FP32", [1, 1, 3, 224, 224], "NONE", ("[1, 1, 3, 224, 224]",)),
        ("FP32", [3, 0, 0], "NONE", ("cannot be read as .png",)),
        ("INT8", [3, 2, 2], "NONE", ("NONE does not fit into INT8",)),
        ("BOOL", [3, 2, 2], "NONE", ("does not fit into BOOL",)),
        ("UINT8", [3, 2, 2], "VGG", ("VGG does not fit into UINT8",)),
        ("INT32", [3, 2, 2], "INCEPTION", ("INCEPTION does not fit into INT32",)),
        ("BYTES", [1], "VGG", ("VGG", "Remove scaling")),
    ],
)
def test_an_image_that_does_not_fit_its_input(tmp_path, datatype, shape, scaling, words):
    refusal(*words, folder=tmp_path, metadata=model(datatype, shape), file=picture(tmp_path), scaling=scaling)


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
@pytest.mark.parametrize("part", [0, 0.2, 0.7])
def test_a_cut_off_image_is_named(tmp_path, name, part):
    pixels = numpy.random.RandomState(0).randint(0, 256, (64, 64, 3)).astype("uint8")
    content = (tmp_path / picture(tmp_path, pixels, name)).read_bytes()
    (tmp_path / name).write_bytes(content[: int(len(content) * part)])
    refusal("cannot be read as", folder=tmp_path, metadata=model(shape=[3, 8, 8]), file=name)


def test_only_the_named_image_formats_are_decoded(tmp_path):
    Image.fromarray(PICTURE).save(tmp_path / "a.png", format="BMP")
    refusal("cannot be read as .png", folder=tmp_path, metadata=model(shape=[3, 8, 8]), file="a.png")


def test_a_missing_pillow_is_named(tmp_path, monkeypatch):
    name = picture(tmp_path)
    monkeypatch.setitem(sys.modules, "PIL", None)
    refusal("pip install pillow", folder=tmp_path, metadata=model(shape=[3, 8, 8]), file=name)


def expected(folder, **tensor):
    return _verify_inputs.expected({"name": "O"} | tensor, str(folder), "output O")


@pytest.mark.parametrize(
    ("name", "content", "more", "values"),
    [
        ("a.npy", numpy.array([[1.5, 2]], "float32"), {}, [[1.5, 2]]),
        ("a.npy", numpy.array([b"\xff", b"b"]), {}, [b"\xff", b"b"]),
        ("a.npy", numpy.array(["é"]), {}, ["é".encode()]),
        ("a.json", [[1, 2], [3, 4]], {}, [[1, 2], [3, 4]]),
        ("a.bin", struct.pack("<2h", 1, -2), {"datatype": "INT16", "shape": [2]}, [1, -2]),
        ("a.bin", b"\x80\x3f", {"datatype": "BF16", "shape": [1]}, [1]),
        ("a.npy", numpy.array([1, 2]), {"datatype": "FP32", "shape": [2]}, [1, 2]),
        ("a.txt", b"\xff", {"datatype": "BYTES", "shape": [1]}, [b"\xff"]),
    ],
)
def test_expected_values_stand_in_a_file(tmp_path, name, content, more, values):
    found = expected(tmp_path, file=file(tmp_path, name, content), **more)
    assert (found if isinstance(found, list) else found.tolist()) == values


@pytest.mark.parametrize(
    ("name", "content", "more", "words"),
    [
        ("a.bin", b"12", {}, "give the output's datatype and shape, or use a .npy or .json file"),
        ("a.bin", b"12", {"datatype": "INT16"}, "give the output's datatype and shape"),
        ("a.bin", b"123", {"datatype": "INT16", "shape": [1]}, "it has 3 bytes; INT16 of shape [1] takes 2"),
        ("a.npy", b"PK", {}, "it cannot be read as .npy"),
        ("a.npy", numpy.array([None]), {}, "it cannot be read as .npy"),
        ("a.json", b"[1", {}, "it cannot be read as .json"),
        ("a.json", {"data": [1]}, {}, "it must hold a list of values"),
        ("a.json", [1, {"x": 2}], {}, "it holds {'x': 2} among its values"),
        ("a.npy", numpy.array([1.5]), {"datatype": "INT8", "shape": [1]}, "float64 values do not fit into INT8"),
    ],
)
def test_a_file_of_expected_values_that_cannot_be_used_is_named(tmp_path, name, content, more, words):
    with pytest.raises(_tensors.CaseError, match="^output O.*file .*a[.]") as caught:
        expected(tmp_path, file=file(tmp_path, name, content), **more)
    assert words in str(caught.value)


def test_a_file_of_expected_values_that_is_missing_is_named(tmp_path):
    with pytest.raises(_tensors.CaseError, match="output O: file none.npy: there is no such file"):
        expected(tmp_path, file="none.npy")
