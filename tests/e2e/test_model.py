# SPDX-License-Identifier: Apache-2.0
"""test_model.py - our arithmetic against numpy in PyTorch's order, through files that this test writes by itself.

The safetensors file is made here, byte by byte, from the published format; the LSTM is written down from PyTorch's
documentation in double precision. `gaitd model run` has to agree to 1e-5 in h, c and heads, with every kernel that the
machine has; a file that gaitd makes is not involved. $GAITD names the binary (build/gaitd).
"""
import json
import os
import struct
import subprocess

import numpy as np
import pytest

GAITD = os.environ.get("GAITD", os.path.join(os.path.dirname(__file__), "..", "..", "build", "gaitd"))
KERNELS = ["generic", "avx2", "avx512"]


def safetensors(tensors, metadata):
    header, data = {"__metadata__": metadata}, b""
    for name, value in tensors.items():
        raw = value.astype("<f4").tobytes()
        header[name] = {"dtype": "F32", "shape": list(value.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def make_model(rng, inputs, hidden, classes):
    """inputs = 4 of a category embedding and the rest features; hidden = sizes of the layers."""
    names = [f"category {i}" for i in range(classes)]
    tensors = {"embedding.category.weight": rng.normal(size=(classes + 1, 4))}
    width = inputs
    for layer, h in enumerate(hidden):
        bound = 1 / np.sqrt(h)
        for name, shape in (("weight_ih", (4 * h, width)), ("weight_hh", (4 * h, h)), ("bias_ih", (4 * h,)),
                            ("bias_hh", (4 * h,))):
            tensors[f"lstm.{name}_l{layer}"] = rng.uniform(-bound, bound, size=shape)
        width = h
    tensors["head.interest.weight"] = rng.normal(size=(classes, width)) * 0.3
    tensors["head.interest.bias"] = rng.normal(size=classes)
    tensors["head.intent.weight"] = rng.normal(size=(1, width)) * 0.3
    tensors["head.intent.bias"] = rng.normal(size=1)
    tensors = {name: value.astype(np.float32) for name, value in tensors.items()}
    metadata = {
        "gait_version": "1",
        "vocabularies": json.dumps({"category": names}),
        "embeddings": json.dumps([{"field": "category", "width": 4, "vocabulary": "category"}]),
        "features": json.dumps([{"column": f"feature.{i}"} for i in range(inputs - 4)]),
        "heads": json.dumps([
            {"name": "interest", "kind": "softmax", "target": "category", "vocabulary": "category"},
            {"name": "intent", "kind": "sigmoid", "target": "intent"},
        ]),
        "intent_horizon_ms": "3600000",
    }
    return tensors, metadata


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def reference(tensors, layers, xs):
    """Yields h of each layer, c of each layer, interest, intent for each step: torch.nn.LSTM's equations."""
    w = {name: value.astype(np.float64) for name, value in tensors.items()}
    h = [np.zeros(w[f"lstm.weight_hh_l{i}"].shape[1]) for i in range(layers)]
    c = [np.zeros_like(v) for v in h]
    for x in xs:
        for i in range(layers):
            z = (w[f"lstm.weight_ih_l{i}"] @ x + w[f"lstm.bias_ih_l{i}"]
                 + w[f"lstm.weight_hh_l{i}"] @ h[i] + w[f"lstm.bias_hh_l{i}"])
            gate_i, gate_f, gate_g, gate_o = np.split(z, 4)
            c[i] = sigmoid(gate_f) * c[i] + sigmoid(gate_i) * np.tanh(gate_g)
            h[i] = sigmoid(gate_o) * np.tanh(c[i])
            x = h[i]
        logits = w["head.interest.weight"] @ x + w["head.interest.bias"]
        softmax = np.exp(logits - logits.max())
        yield ([v.copy() for v in h], [v.copy() for v in c], softmax / softmax.sum(),
               sigmoid(w["head.intent.weight"] @ x + w["head.intent.bias"]))


def run(*args, text=""):
    return subprocess.run([GAITD, "model", *args], input=text, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("inputs,hidden,classes", [(64, [128, 64], 32), (5, [1], 1), (17, [33], 3), (7, [9, 8, 17], 45)])
def test_agrees_with_numpy(tmp_path, kernel, inputs, hidden, classes):
    rng = np.random.default_rng(inputs * 1000 + hidden[0])
    tensors, metadata = make_model(rng, inputs, hidden, classes)
    path = tmp_path / "model.safetensors"
    path.write_bytes(safetensors(tensors, metadata))
    sequences = [rng.normal(size=(steps, inputs)).astype(np.float32) for steps in (1, 28, 100)]
    lines = "".join(json.dumps({"inputs": s.astype(float).tolist()}) + "\n" for s in sequences)
    result = run("run", "--model", str(path), "--kernel", kernel, text=lines)
    if result.returncode != 0 and "lacks the instructions" in result.stderr:
        pytest.skip(f"no {kernel} here")
    assert result.returncode == 0, result.stderr
    got = iter(result.stdout.splitlines())
    for number, sequence in enumerate(sequences):
        for step, (h, c, interest, intent) in enumerate(reference(tensors, len(hidden), sequence.astype(np.float64))):
            line = json.loads(next(got))
            assert (line["sequence"], line["step"]) == (number, step)
            for layer in range(len(hidden)):
                np.testing.assert_allclose(line["h"][layer], h[layer], rtol=0, atol=1e-5)
                np.testing.assert_allclose(line["c"][layer], c[layer], rtol=0, atol=1e-5)
            np.testing.assert_allclose(line["heads"]["interest"], interest, rtol=0, atol=1e-5)
            np.testing.assert_allclose(line["heads"]["intent"], intent, rtol=0, atol=1e-5)
    assert next(got, None) is None


def test_show_names_what_is_inside(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(safetensors(*make_model(np.random.default_rng(1), 9, [12, 6], 5)))
    result = run("show", str(path))
    assert result.returncode == 0, result.stderr
    for text in ("LSTM 9 → 12", "LSTM 12 → 6", "feature.4", '"category 0"', "softmax over category", "3600000 ms"):
        assert text in result.stdout


@pytest.mark.parametrize("line,because", [
    ('{"inputs":[[1,2]]}', "array of 9 numbers"),
    ('{"inputs":[[1,2,3,4,5,6,7,8,"9"]]}', "element 8"),
    ('{"inputs":[[1,2,3,4,5,6,7,8,1e300]]}', "element 8"),
    ('{"inputs":7}', "array 'inputs'"),
    ('[]', "array 'inputs'"),
    ('{"inputs":', "line 1"),
])
def test_wrong_input_is_named(tmp_path, line, because):
    path = tmp_path / "model.safetensors"
    path.write_bytes(safetensors(*make_model(np.random.default_rng(1), 9, [4], 2)))
    result = run("run", "--model", str(path), text=line + "\n")
    assert result.returncode == 1
    assert because in result.stderr and "line 1" in result.stderr


def test_wrong_command_lines():
    assert run("--help").returncode == 0
    assert "Example" in run("--help").stdout
    assert run().returncode == 2
    assert run("dance").returncode == 2
    assert run("run").returncode == 2
    assert run("show", "a", "b").returncode == 2
    missing = run("show", "/nonexistent")
    assert missing.returncode == 1 and "/nonexistent" in missing.stderr
