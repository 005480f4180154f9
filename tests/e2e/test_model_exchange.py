# SPDX-License-Identifier: Apache-2.0
"""test_model_exchange.py - models from and to other tools, against onnxruntime and numpy.

Export: onnxruntime on the exported graph has to agree with `gaitd model run` to 1e-5, step by step. Import: the same
weights laid out as PyTorch, Keras and ONNX keep them have to come back as the same model, to the bit.
"""
import json
import subprocess

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from test_model import GAITD, make_model, reference, run, safetensors

SHAPES = [(64, [128, 64], 32), (5, [1], 1), (17, [33], 3), (7, [9, 8, 17], 45), (6, [5], 5)]


def written(tmp_path, inputs, hidden, classes):
    tensors, metadata = make_model(np.random.default_rng(inputs), inputs, hidden, classes)
    path = tmp_path / "model.safetensors"
    path.write_bytes(safetensors(tensors, metadata))
    return path, tensors, metadata


def ours(path, xs):
    result = run("run", "--model", str(path), text=json.dumps({"inputs": xs.astype(float).tolist()}) + "\n")
    assert result.returncode == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def model_id(path):
    result = run("show", str(path))
    assert result.returncode == 0, result.stderr
    return result.stdout.split()[1]


def sessions(path, *options):
    exported = path.with_suffix(".onnx")
    result = run("export", "--onnx", str(exported), *options, str(path))
    assert result.returncode == 0, result.stderr
    onnx.checker.check_model(onnx.load(exported), full_check=True)
    return exported, onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])


def zeros(hidden, batch):
    return {f"{name}0_l{i}": np.zeros((1, batch, h), np.float32) for i, h in enumerate(hidden) for name in "hc"}


def compare(lines, outputs, hidden, batch):
    """outputs by name: heads at every step, h and c after the last."""
    for head in ("interest", "intent"):
        got = np.array([line["heads"][head] for line in lines])
        np.testing.assert_allclose(outputs[head][:, batch], got, rtol=0, atol=1e-5)
    for i in range(len(hidden)):
        for name in "hc":
            np.testing.assert_allclose(outputs[f"{name}_l{i}"][0, batch], lines[-1][name][i], rtol=0, atol=1e-5)


@pytest.mark.parametrize("inputs,hidden,classes", SHAPES)
def test_export_of_vectors_agrees_with_onnxruntime(tmp_path, inputs, hidden, classes):
    path, _, _ = written(tmp_path, inputs, hidden, classes)
    _, session = sessions(path, "--vector")
    xs = np.random.default_rng(1).normal(size=(28, 3, inputs)).astype(np.float32)
    outputs = dict(zip([o.name for o in session.get_outputs()], session.run(None, {"X": xs, **zeros(hidden, 3)})))
    for batch in range(3):
        compare(ours(path, xs[:, batch]), outputs, hidden, batch)


@pytest.mark.parametrize("inputs,hidden,classes", SHAPES)
def test_export_with_embeddings_agrees_with_onnxruntime(tmp_path, inputs, hidden, classes):
    path, tensors, metadata = written(tmp_path, inputs, hidden, classes)
    _, session = sessions(path)
    rng = np.random.default_rng(2)
    rows = rng.integers(0, classes + 1, size=(10, 2))
    features = rng.normal(size=(10, 2, inputs - 4)).astype(np.float32)
    outputs = dict(zip([o.name for o in session.get_outputs()],
                       session.run(None, {"row_category": rows, "features": features, **zeros(hidden, 2)})))
    xs = np.concatenate([tensors["embedding.category.weight"][rows], features], axis=2)
    for batch in range(2):
        compare(ours(path, xs[:, batch]), outputs, hidden, batch)
    properties = session.get_modelmeta().custom_metadata_map
    assert json.loads(properties["vocabularies"]) == json.loads(metadata["vocabularies"])


def test_state_carries_over(tmp_path):
    """28 steps at once are 14 and 14 with the state handed on: what a server does."""
    path, _, _ = written(tmp_path, 17, [33], 3)
    _, session = sessions(path, "--vector")
    names = [o.name for o in session.get_outputs()]
    xs = np.random.default_rng(3).normal(size=(28, 1, 17)).astype(np.float32)
    first = dict(zip(names, session.run(None, {"X": xs[:14], **zeros([33], 1)})))
    second = dict(zip(names, session.run(None, {"X": xs[14:], "h0_l0": first["h_l0"], "c0_l0": first["c_l0"]})))
    np.testing.assert_allclose(second["interest"][-1, 0], ours(path, xs[:, 0])[-1]["heads"]["interest"], atol=1e-5)


@pytest.mark.parametrize("options", [[], ["--vector"]])
@pytest.mark.parametrize("inputs,hidden,classes", SHAPES)
def test_out_and_in_again_is_the_same_model(tmp_path, inputs, hidden, classes, options):
    path, _, _ = written(tmp_path, inputs, hidden, classes)
    exported, _ = sessions(path, *options)
    again = tmp_path / "again.safetensors"
    result = run("import", "--from", "onnx", "--out", str(again), str(exported))
    assert result.returncode == 0, result.stderr
    assert model_id(again) == model_id(path)


# ---- from PyTorch, Keras and foreign ONNX files ---------------------------------------------------------------------


def description(metadata, layers=None, **heads):
    """Our metadata as the JSON file that --meta takes, with the tensors' names as the tool has them."""
    meta = {key: json.loads(metadata[key]) for key in ("vocabularies", "embeddings", "features", "heads")}
    meta["intent_horizon_ms"] = int(metadata["intent_horizon_ms"])
    meta["embeddings"][0]["tensor"] = "emb"
    for head in meta["heads"]:
        head.update(weight=f"{head['name']}.w", bias=f"{head['name']}.b", **heads)
    if layers:
        meta["layers"] = layers
    return meta


def imported(tmp_path, tool, source, meta):
    out, described = tmp_path / "imported.safetensors", tmp_path / "meta.json"
    described.write_text(json.dumps(meta))
    result = run("import", "--from", tool, "--meta", str(described), "--out", str(out), str(source))
    return out, result


@pytest.mark.parametrize("inputs,hidden,classes", SHAPES)
def test_from_pytorch(tmp_path, inputs, hidden, classes):
    """Each layer an nn.LSTM of its own, and a counter of whole numbers, as batch norms have, among them."""
    path, tensors, metadata = written(tmp_path, inputs, hidden, classes)
    state = {"emb": tensors["embedding.category.weight"]}
    for i in range(len(hidden)):
        for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            state[f"rnn.{i}.{part}_l0"] = tensors[f"lstm.{part}_l{i}"]
    for head in ("interest", "intent"):
        state[f"{head}.w"], state[f"{head}.b"] = tensors[f"head.{head}.weight"], tensors[f"head.{head}.bias"]
    source = tmp_path / "torch.safetensors"
    source.write_bytes(safetensors(state, {"format": "pt"}))
    out, result = imported(tmp_path, "pytorch", source,
                           description(metadata, [f"rnn.{i}" for i in range(len(hidden))]))
    assert result.returncode == 0, result.stderr
    assert model_id(out) == model_id(path)


@pytest.mark.parametrize("packed", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("inputs,hidden,classes", SHAPES)
def test_from_keras(tmp_path, inputs, hidden, classes, packed):
    """kernel [inputs, 4H] with gates i f c o, one bias. It is the sum of ours, so outputs agree instead of ids."""
    path, tensors, metadata = written(tmp_path, inputs, hidden, classes)
    weights = {"emb": tensors["embedding.category.weight"].astype(np.float64)}
    for i in range(len(hidden)):
        cell = f"model/lstm_{i}/lstm_cell/"
        weights[cell + "kernel"] = np.ascontiguousarray(tensors[f"lstm.weight_ih_l{i}"].T)
        weights[cell + "recurrent_kernel"] = np.ascontiguousarray(tensors[f"lstm.weight_hh_l{i}"].T)
        weights[cell + "bias"] = tensors[f"lstm.bias_ih_l{i}"] + tensors[f"lstm.bias_hh_l{i}"]
    for head in ("interest", "intent"):
        weights[f"{head}.w"] = np.ascontiguousarray(tensors[f"head.{head}.weight"].T)
        weights[f"{head}.b"] = tensors[f"head.{head}.bias"]
    source = tmp_path / "keras.npz"
    packed(source, **weights)
    layers = [f"model/lstm_{i}/lstm_cell/" for i in range(len(hidden))] if len(hidden) > 1 else None
    out, result = imported(tmp_path, "keras", source, description(metadata, layers))
    assert result.returncode == 0, result.stderr
    xs = np.random.default_rng(4).normal(size=(28, inputs)).astype(np.float32)
    steps = reference(tensors, len(hidden), xs.astype(np.float64))
    for line, (h, _, interest, intent) in zip(ours(out, xs), steps, strict=True):
        np.testing.assert_allclose(line["h"][-1], h[-1], rtol=0, atol=1e-5)
        np.testing.assert_allclose(line["heads"]["interest"], interest, rtol=0, atol=1e-5)
        np.testing.assert_allclose(line["heads"]["intent"], intent, rtol=0, atol=1e-5)


def iofc(value):
    i, f, g, o = np.split(value, 4)
    return np.concatenate([i, o, f, g])


def foreign_onnx(path, tensors, hidden, inputs, **attributes):
    """A graph made by onnx's own helper: one LSTM node, weights as a Constant node and as initializers."""
    h = hidden[0]
    w = iofc(tensors["lstm.weight_ih_l0"])[None]
    r = iofc(tensors["lstm.weight_hh_l0"])[None]
    b = np.concatenate([iofc(tensors["lstm.bias_ih_l0"]), iofc(tensors["lstm.bias_hh_l0"])])[None]
    node = helper.make_node("LSTM", ["X", "W", "R", "B"], ["Y"], hidden_size=h, **attributes)
    constant = helper.make_node("Constant", [], ["R"], value=numpy_helper.from_array(r, "r"))
    listed = helper.make_tensor("B", TensorProto.FLOAT, b.shape, b.flatten().tolist())  # float_data, not raw
    others = {"W": w, "emb": tensors["embedding.category.weight"], "interest.w": tensors["head.interest.weight"].T,
              "interest.b": tensors["head.interest.bias"], "intent.w": tensors["head.intent.weight"],
              "intent.b": tensors["head.intent.bias"]}
    graph = helper.make_graph([constant, node], "foreign",
                              [helper.make_tensor_value_info("X", TensorProto.FLOAT, [None, 1, inputs])],
                              [helper.make_tensor_value_info("Y", TensorProto.FLOAT, [None, 1, 1, h])],
                              [listed] + [numpy_helper.from_array(np.ascontiguousarray(v), k) for k, v in others.items()])
    path.write_bytes(helper.make_model(graph).SerializeToString())


def test_from_a_foreign_onnx_file(tmp_path):
    path, tensors, metadata = written(tmp_path, 17, [33], 3)
    source = tmp_path / "foreign.onnx"
    foreign_onnx(source, tensors, [33], 17, direction="forward", activations=["Sigmoid", "Tanh", "Tanh"])
    out, result = imported(tmp_path, "onnx", source, description(metadata))
    assert result.returncode == 0, result.stderr
    assert model_id(out) == model_id(path)


@pytest.mark.parametrize("attributes,because", [
    ({"direction": "reverse"}, "only forward"), ({"input_forget": 1}, "input_forget"), ({"clip": 3.0}, "clip"),
    ({"activations": ["Relu", "Tanh", "Tanh"]}, "activations"),
])
def test_another_kind_of_lstm_is_refused(tmp_path, attributes, because):
    _, tensors, metadata = written(tmp_path, 17, [33], 3)
    source = tmp_path / "foreign.onnx"
    foreign_onnx(source, tensors, [33], 17, **attributes)
    _, result = imported(tmp_path, "onnx", source, description(metadata))
    assert result.returncode == 1 and because in result.stderr


def test_a_square_head_of_a_foreign_onnx_file_has_to_be_turned_by_hand(tmp_path):
    path, tensors, metadata = written(tmp_path, 6, [5], 5)
    source = tmp_path / "foreign.onnx"
    foreign_onnx(source, tensors, [5], 6)
    _, result = imported(tmp_path, "onnx", source, description(metadata))
    assert result.returncode == 1 and '"transposed"' in result.stderr
    meta = description(metadata)
    meta["heads"][0]["transposed"] = True
    out, result = imported(tmp_path, "onnx", source, meta)
    assert result.returncode == 0, result.stderr
    assert model_id(out) == model_id(path)


@pytest.mark.parametrize("tool,suffix", [("onnx", "onnx"), ("keras", "npz"), ("pytorch", "safetensors")])
def test_a_damaged_file_is_refused_and_never_crashes(tmp_path, tool, suffix):
    path, tensors, metadata = written(tmp_path, 5, [3], 2)
    whole = tmp_path / f"whole.{suffix}"
    if tool == "onnx":
        foreign_onnx(whole, tensors, [3], 5)
    elif tool == "keras":
        np.savez_compressed(whole, **{"recurrent_kernel": np.ones((3, 12), np.float32), "kernel": np.ones((5, 12))})
    else:
        whole.write_bytes(safetensors({"lstm.weight_hh_l0": np.ones((12, 3))}, {}))
    content = whole.read_bytes()
    rng = np.random.default_rng(5)
    for at in [0, 1, 7, *rng.integers(8, len(content), 12)]:
        broken = bytearray(content[:at] if at % 2 else content)
        for place in rng.integers(0, max(len(broken), 1), 3):
            if broken:
                broken[place] ^= int(rng.integers(1, 256))
        source = tmp_path / f"broken.{suffix}"
        source.write_bytes(broken)
        _, result = imported(tmp_path, tool, source, description(metadata))
        assert result.returncode in (0, 1), (at, result.stderr)  # a flipped weight is still a weight
        assert (result.stderr != "") == (result.returncode == 1)


@pytest.mark.parametrize("change,because", [
    (lambda m: m.update(heads=[{**m["heads"][0], "weight": "nobody"}]), "no tensor nobody"),
    (lambda m: m["vocabularies"]["category"].extend("abc"), "rows"),
    (lambda m: m.update(layers=["nobody"]), "nobody.weight_hh_l0"),
    (lambda m: m.update(leyers=["nobody"]), "'leyers' is not known"),
    (lambda m: m["heads"][0].update(kind="linear"), "linear"),
])
def test_a_description_that_does_not_fit_is_named(tmp_path, change, because):
    _, tensors, metadata = written(tmp_path, 5, [3], 2)
    state = {name: value for name, value in tensors.items() if name.startswith("lstm")}
    state["emb"] = tensors["embedding.category.weight"]
    for head in ("interest", "intent"):
        state[f"{head}.w"], state[f"{head}.b"] = tensors[f"head.{head}.weight"], tensors[f"head.{head}.bias"]
    source = tmp_path / "torch.safetensors"
    source.write_bytes(safetensors(state, {}))
    meta = description(metadata)
    assert imported(tmp_path, "pytorch", source, meta)[1].returncode == 0
    change(meta)
    _, result = imported(tmp_path, "pytorch", source, meta)
    assert result.returncode == 1 and because in result.stderr, result.stderr


def test_wrong_command_lines(tmp_path):
    path, _, _ = written(tmp_path, 5, [3], 2)
    for part in ("import", "export"):
        shown = subprocess.run([GAITD, "model", part, "--help"], capture_output=True, text=True, timeout=60)
        assert shown.returncode == 0 and "Example" in shown.stdout
    assert run("import", "--from", "caffe", "--out", "x", "y").returncode == 2
    assert run("import", "--from", "pytorch", "--out", "x", "y").returncode == 2
    assert run("export", str(path)).returncode == 2
    nowhere = run("export", "--onnx", str(tmp_path / "no" / "x.onnx"), str(path))
    assert nowhere.returncode == 1 and "x.onnx" in nowhere.stderr
