"""How well nets of known results do on MNIST: each test error beside the one that was published.

Settings are chosen on the validation images: ``--validation`` trains on 55,000 images, tells the error on
the other 5,000, and does not look at the test images; with ``--fold``, a sixth of these 60,000 is held out
instead. Settings stand below, and were committed before the final runs. A final run trains on all 60,000 and
looks at the 10,000 test images once; its result is kept, whatever it is, and a seed that has one is not run
again. Who changes a recipe keeps the results of the one before: they stay in the file and in the table.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from machine import commit, machine_facts, n_cpus

from fastmlp import Adam, AdamW, Augmentation, Checkpoint, Elastic, Net, datasets
from fastmlp.datasets import Dataset, Split
from fastmlp.optimizers import Optimizer
from fastmlp.schedules import OneCycle

RESULTS = Path(__file__).with_name("results")
FOLDS = 6


@dataclass(frozen=True)
class Recipe:
    """What to train and how; the rate follows one cycle.

    published: an error on the test images in percent, and where it stands.
    """

    published: tuple[float, str]
    layer_sizes: tuple[int, ...]
    epochs: int
    batch_size: int
    optimizer: Optimizer
    label_smoothing: float = 0.0
    augment: Augmentation | None = None
    net: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        sizes = "-".join(map(str, self.layer_sizes))
        parts = [sizes, f"{self.optimizer}", "OneCycle()"]
        parts += [f"batch_size={self.batch_size}", f"epochs={self.epochs}"]
        if self.label_smoothing:
            parts.append(f"label_smoothing={self.label_smoothing}")
        parts += [f"{name}={value!r}" for name, value in self.net.items()]
        if self.augment is not None:
            parts.append(f"augment={self.augment}")
        return ", ".join(parts)


RECIPES = {
    "plain": Recipe(
        (1.6, "LeCun et al. (1998), 2-layer NN, 800 HU, cross-entropy: Simard et al. (2003), table 1"),
        (784, 800, 10),
        epochs=30,
        batch_size=128,
        optimizer=AdamW(0.002, weight_decay=0.05),
        label_smoothing=0.1,
    ),
    "dropout": Recipe(
        (1.06, "Srivastava et al. (2014), table 2: 3 layers of 1024 units, ReLU, dropout and max-norm"),
        (784, 1024, 1024, 1024, 10),
        epochs=200,
        batch_size=256,
        optimizer=Adam(0.002, max_norm=3.0),
        net={"dropout": (0.2, 0.4, 0.4, 0.4), "batch_norm": True, "precision": "mixed_bfloat16"},
    ),
    "elastic": Recipe(
        (0.7, "Simard et al. (2003), table 1: 800 hidden units, cross-entropy, elastic distortions"),
        (784, 800, 10),
        epochs=300,
        batch_size=128,
        optimizer=Adam(0.002),
        augment=Augmentation(shift=1, rotation=8, scale=0.08, shear=0.08, elastic=Elastic()),
        net={"precision": "mixed_bfloat16"},
    ),
}


def main() -> None:
    args = parse_arguments()
    mnist = datasets.mnist()
    for case in args.case:
        for seed in args.seeds:
            if args.validation:
                validate(case, seed, mnist, args)
            else:
                finish(case, seed, mnist, args)
    if not args.validation:
        print(table(args.output))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example: python benchmarks/accuracy.py --case plain --seeds 0 1 2",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--case", nargs="+", choices=RECIPES, default=list(RECIPES), help="default: all")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="default: 0 1 2")
    parser.add_argument(
        "--validation", action="store_true", help="choose settings: no look at the test images"
    )
    parser.add_argument("--fold", type=int, choices=range(FOLDS), help="the sixth to hold out instead")
    parser.add_argument("--epochs", type=int, help="instead of the recipe's, with --validation")
    parser.add_argument("--threads", type=int, default=n_cpus(), help="default: all CPUs")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder for JSON and checkpoints")
    args = parser.parse_args()
    if args.epochs is not None and not args.validation:
        sys.exit("accuracy.py: --epochs goes with --validation; final runs have the recipe's.")
    if args.fold is not None and not args.validation:
        sys.exit("accuracy.py: --fold goes with --validation.")
    return args


def validate(case: str, seed: int, mnist: Dataset, args: argparse.Namespace) -> None:
    """Train on the training images and tell the error on those held out."""
    if args.fold is None:
        train, held_out, name = mnist.train, mnist.validation, "validation"
    else:
        train, held_out = folded(all_but_test(mnist), args.fold)
        name = f"fold{args.fold}"
    net = trained(case, seed, train, args, args.epochs, name)
    error, n = error_of(net, held_out)
    print(
        f"{case}, seed {seed}, {name}: {error:.2f} % of {n:,} images wrong, {minutes(net):.1f} min",
        flush=True,
    )


def all_but_test(mnist: Dataset) -> Split:
    """Return the 60,000 images that are not for the test, in the order of their file."""
    return Split(
        np.concatenate([mnist.train.images, mnist.validation.images]),
        np.concatenate([mnist.train.labels, mnist.validation.labels]),
    )


def folded(split: Split, fold: int) -> tuple[Split, Split]:
    """Return all images but a sixth, and this sixth: neighbours, which are more of the same hands."""
    held_out = np.arange(len(split)) * FOLDS // len(split) == fold
    return (
        Split(split.images[~held_out], split.labels[~held_out]),
        Split(split.images[held_out], split.labels[held_out]),
    )


def finish(case: str, seed: int, mnist: Dataset, args: argparse.Namespace) -> None:
    """Train on all images but those for the test, look at these, and keep the result; once for each seed."""
    path = results_path(args.output, case)
    if any(run["seed"] == seed for run in runs_of(RECIPES[case], read_results(path))):
        print(f"{case}, seed {seed}: done before, see {path}", flush=True)
        return
    if (at := commit(but="benchmarks/results")).endswith("-dirty"):
        sys.exit(f"accuracy.py: commit what differs from {at.removesuffix('-dirty')} before a final run.")
    net = trained(case, seed, all_but_test(mnist), args)
    error, _ = error_of(net, mnist.test)
    print(f"{case}, seed {seed}: {error:.2f} % of the test images wrong, {minutes(net):.1f} min", flush=True)
    facts = {"commit": at, "machine": machine_facts(), "threads": args.threads}
    run = {"seed": seed, "test_error_percent": error, "epochs": net.n_epochs, "minutes": minutes(net)}
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # runs of other seeds may end in the same second
        results = read_results(path)
        runs_of(RECIPES[case], results).append(run | facts)
        path.write_text(json.dumps(results, indent=1) + "\n")


def results_path(folder: Path, case: str) -> Path:
    return folder / f"accuracy-{case}.json"


def read_results(path: Path) -> list[dict[str, Any]]:
    """Return text and runs of each recipe that a case has had, in the order of their first runs."""
    results: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []
    return results


def runs_of(recipe: Recipe, results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the list of the recipe's runs; an empty one is added if it has none."""
    result = next((result for result in results if result["recipe"] == str(recipe)), None)
    if result is None:
        result = {"recipe": str(recipe), "runs": []}
        results.append(result)
    runs: list[dict[str, Any]] = result["runs"]
    return runs


def trained(
    case: str, seed: int, split: Split, args: argparse.Namespace, epochs: int | None = None, on: str = "all"
) -> Net:
    """Return a net that the recipe has trained, going on from its checkpoint if a run was cut off.

    on: what the split is, for the checkpoint's name.
    """
    recipe = RECIPES[case]
    epochs = epochs or recipe.epochs
    digest = hashlib.sha256(str(recipe).encode()).hexdigest()[:8]
    path = args.output / f"accuracy-{case}-{digest}-{on}-{epochs}-{seed}.safetensors"
    callbacks = [Checkpoint(path, seconds=60)]
    how: dict[str, Any] = {"callbacks": callbacks, "threads": args.threads, "progress": sys.stderr.isatty()}
    if path.exists() and (net := Net.load(path)).can_resume:
        net.fit(split.images, split.labels, resume=True, **how)
    else:
        net = Net(recipe.layer_sizes, seed=seed, **recipe.net)
        net.fit(
            split.images,
            split.labels,
            epochs=epochs,
            batch_size=recipe.batch_size,
            optimizer=recipe.optimizer,
            schedule=OneCycle(),
            label_smoothing=recipe.label_smoothing,
            augment=recipe.augment,
            **how,
        )
    path.unlink()
    return net


def error_of(net: Net, split: Split) -> tuple[float, int]:
    """Return the part of the images that are taken for another digit, in percent, and their number."""
    n_wrong = int((net.predict(split.images) != split.labels).sum())
    return round(100 * n_wrong / len(split), 2), len(split)


def minutes(net: Net) -> float:
    """Return the time that training took, interruptions not counted."""
    return round(sum(net.history.seconds) / 60, 1)


def table(folder: Path = RESULTS) -> str:
    """Return all final results as a Markdown table."""
    lines = [
        "| case | net | test error, % of 10,000: each seed | published | epochs | minutes a run |",
        "|---|---|---|---|---|---|",
    ]
    for case, recipe in RECIPES.items():
        for result in reversed(read_results(results_path(folder, case))):
            runs = sorted(result["runs"], key=lambda run: run["seed"])
            name = f"`{case}`" if result["recipe"] == str(recipe) else f"`{case}`, settings before"
            errors = ", ".join(f"{run['test_error_percent']:.2f}" for run in runs)
            times = [run["minutes"] for run in runs]
            lines.append(
                f"| {name} | {result['recipe'].partition(',')[0]} | {errors} | {recipe.published[0]} "
                f"| {runs[0]['epochs']} | {min(times):g} to {max(times):g} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
