#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The preset purchase-28 in TensorFlow, for comparison with bench_train: the same shapes, data of the same making.

Usage: keras_train.py [BATCH [EPOCHS [SEQUENCES]]]; one core, by affinity. TensorFlow is no dependency of gait: without it
this says so and ends well. `fit` is Keras's own loop; `unrolled` a hand-written step with the LSTM's time unrolled, the
fastest way known to us.
"""
import json
import os
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
try:
    import numpy as np
    import tensorflow as tf
except ImportError:
    print("keras_train: skipped, there is no TensorFlow here")
    sys.exit(0)

STEPS, WIDTH = 28, 16


def make(n):
    draw = np.random.default_rng(42)
    x = draw.standard_normal((n, STEPS, WIDTH)).astype("float32")
    score = (x[:, :, 0] * x[:, :, 1]).mean(1) + 0.5 * (x[:, -7:, 2].mean(1) - x[:, :7, 2].mean(1))
    return x, (score + 0.1 * draw.standard_normal(n) > 0).astype("float32")[:, None]


def network(unroll):
    layers = tf.keras.layers
    return tf.keras.Sequential([
        layers.Input((STEPS, WIDTH)), layers.LSTM(128, return_sequences=True, unroll=unroll), layers.Dropout(0.2),
        layers.LSTM(64, unroll=unroll), layers.Dropout(0.2), layers.Dense(1, activation="sigmoid")])


def report(job, batch, epochs, n, seconds, model, x, y):
    loss, accuracy = model.evaluate(x, y, batch_size=256, verbose=0)
    print(json.dumps({"job": job, "batch": batch, "epochs": epochs, "sequences_per_s": round(n * epochs / seconds),
                      "loss": round(loss, 4), "accuracy": round(accuracy, 4)}), flush=True)


def run_fit(x, y, batch, epochs):
    model = network(False)
    model.compile(tf.keras.optimizers.Adam(1e-3), "binary_crossentropy", ["accuracy"])
    model.fit(x[:batch * 8], y[:batch * 8], batch_size=batch, verbose=0)  # compile outside of the clock
    began = time.monotonic()
    model.fit(x, y, batch_size=batch, epochs=epochs, verbose=0)
    report("keras-fit", batch, epochs, len(x), time.monotonic() - began, model, x, y)


def run_unrolled(x, y, batch, epochs):
    model, adam, loss_of = network(True), tf.keras.optimizers.Adam(1e-3), tf.keras.losses.BinaryCrossentropy()
    model.compile(adam, loss_of, ["accuracy"])

    @tf.function
    def step(a, b):
        with tf.GradientTape() as tape:
            loss = loss_of(b, model(a, training=True))
        adam.apply_gradients(zip(tape.gradient(loss, model.trainable_variables), model.trainable_variables))

    step(tf.constant(x[:batch]), tf.constant(y[:batch]))
    began = time.monotonic()
    for _ in range(epochs):
        order = np.random.permutation(len(x))
        for i in range(0, len(x) - batch + 1, batch):
            step(tf.constant(x[order[i:i + batch]]), tf.constant(y[order[i:i + batch]]))
    report("tf-unrolled", batch, epochs, len(x), time.monotonic() - began, model, x, y)


def main():
    numbers = [int(a) for a in sys.argv[1:] if a.isdigit()]
    batch, epochs, n = (numbers + [32, 10, 20000][len(numbers):])[:3]
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    x, y = make(n)
    run_fit(x, y, batch, epochs)
    run_unrolled(x, y, batch, epochs)


main()
