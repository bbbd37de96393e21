"""Train with checkpoints, from the last one on if there is one: what `test_kill.py` kills and starts again.

Usage: python kill_and_resume.py CHECKPOINT RESULT
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from fastmlp import Adam, Checkpoint, EarlyStopping, Net, schedules

checkpoint, result = map(Path, sys.argv[1:])
rng = np.random.default_rng(0)
X = rng.integers(0, 256, (6_007, 120), dtype=np.uint8)
y = np.argmax(X[:, :10] + rng.normal(0, 150, (len(X), 10)), axis=1)  # noise enough for the net to overfit
held_out = X[:1_000], y[:1_000]

if checkpoint.exists():
    net = Net.load(checkpoint)
    settings = {}
else:
    net = Net([120, 100, 60, 10], seed=3)
    settings = {
        "epochs": 30,
        "batch_size": 64,
        "optimizer": Adam(0.002, clip_norm=1.0, max_norm=2.0, ema_decay=0.99),
        "schedule": schedules.Warmup(50, then=schedules.ReduceOnPlateau(patience=2, factor=0.5)),
    }
if settings or net.can_resume:
    print(f"begins at step {len(net.history.step_loss)}", flush=True)
    net.fit(
        X[1_000:],
        y[1_000:],
        validation_data=held_out,
        callbacks=[Checkpoint(checkpoint, steps=7), EarlyStopping(patience=4)],
        resume=not settings,
        **settings,
    )
np.savez(result, *net.weights, *net.biases, step_loss=net.history.step_loss, loss=net.history.loss)
