"""Test accuracy of the lesson's net in both precisions, for several seeds."""

from __future__ import annotations

import json

from footprint import output_of

SEEDS = 5

PROGRAM = """
import json
from fastmlp import Net, datasets

data, _ = datasets.auto()
accuracies = {}
for precision in ("float32", "mixed_bfloat16"):
    for seed in range(SEEDS):
        net = Net([784, 200, 10], precision=precision, seed=seed)
        net.fit(data.train.images, data.train.labels, steps=STEPS, batch_size=1000)
        accuracy = net.evaluate(data.test.images, data.test.labels).accuracy
        accuracies.setdefault(precision, []).append(accuracy)
print(json.dumps(accuracies))
"""


def accuracies_of_seeds(steps: int, threads: int) -> dict[str, list[float]]:
    """Train once per precision and seed; return the accuracies by precision."""
    program = PROGRAM.replace("SEEDS", str(SEEDS)).replace("STEPS", str(steps))
    accuracies: dict[str, list[float]] = json.loads(output_of(program, threads))
    return accuracies
