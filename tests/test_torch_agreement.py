"""The core, and the oracle, against PyTorch: the same start, the same batches, the same losses."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from core_networks import (
    INSTRUCTION_SETS,
    adam_trainer,
    network_like,
    parameters_of,
    random_inputs,
    random_net,
    random_targets,
    run_batches,
    sgd_trainer,
)
from error_bounds import EPSILON
from fastmlp import Adam, Net
from reference import ACTIVATIONS, ReferenceAdam, ReferenceAround, ReferenceSGD
from training_twin import train_beside_twin

torch = pytest.importorskip("torch", reason="PyTorch is not installed: the core was not compared with it")

LAYER_SIZES, BATCH_SIZE, N_SAMPLES, N_STEPS = [30, 24, 17, 6], 40, 300, 100

TORCH_ACTIVATIONS = {
    "identity": lambda z: z,
    "relu": torch.relu,
    "leaky_relu": lambda z: torch.nn.functional.leaky_relu(z, 0.01),
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "gelu": lambda z: torch.nn.functional.gelu(z, approximate="none"),
}

CLIP_NORM, EMA_DECAY = 0.4, 0.95


class Clipping:
    """PyTorch's optimiser after its clip_grad_norm_, which divides by the norm + 1e-6; that is undone."""

    def __init__(self, parameters, optimizer):
        self.parameters, self.optimizer = parameters, optimizer
        self.zero_grad = optimizer.zero_grad

    def step(self):
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, np.inf).item()  # clips nothing
        torch.nn.utils.clip_grad_norm_(self.parameters, CLIP_NORM * (1 + 1e-6 / norm))
        self.optimizer.step()


class Averaging:
    """PyTorch's optimiser, and its AveragedModel with the weights of fastmlp."""

    def __init__(self, parameters, optimizer):
        self.live, self.optimizer = torch.nn.ParameterList(parameters), optimizer
        self.zero_grad = optimizer.zero_grad

        def averaged(average, parameter, n_averaged):
            part = (1 - EMA_DECAY) / (1 - EMA_DECAY ** (int(n_averaged) + 1))
            return average + part * (parameter - average)

        self.averages = torch.optim.swa_utils.AveragedModel(self.live, avg_fn=averaged)

    def step(self):
        self.optimizer.step()
        self.averages.update_parameters(self.live)


# The oracle's optimiser, the core's, PyTorch's, and the learning rate.
OPTIMIZERS = {
    "adam": (ReferenceAdam, adam_trainer, torch.optim.Adam, 1e-3),
    "sgd": (
        lambda: ReferenceSGD(momentum=0.9),
        lambda network: sgd_trainer(network, 0.9),
        lambda p, rate: torch.optim.SGD(p, rate, momentum=0.9),
        0.02,
    ),
    "sgd_decay": (
        lambda: ReferenceSGD(momentum=0.9, weight_decay=0.01),
        lambda network: sgd_trainer(network, 0.9, weight_decay=0.01),
        lambda p, rate: torch.optim.SGD(p, rate, momentum=0.9, weight_decay=0.01),
        0.02,
    ),
    "nesterov": (
        lambda: ReferenceSGD(momentum=0.9, nesterov=True),
        lambda network: sgd_trainer(network, 0.9, nesterov=True),
        lambda p, rate: torch.optim.SGD(p, rate, momentum=0.9, nesterov=True),
        0.02,
    ),
    "nesterov_decay": (
        lambda: ReferenceSGD(momentum=0.9, nesterov=True, weight_decay=0.01),
        lambda network: sgd_trainer(network, 0.9, nesterov=True, weight_decay=0.01),
        lambda p, rate: torch.optim.SGD(p, rate, momentum=0.9, nesterov=True, weight_decay=0.01),
        0.02,
    ),
    "adam_decay": (
        lambda: ReferenceAdam(weight_decay=0.01),
        lambda network: adam_trainer(network, weight_decay=0.01),
        lambda p, rate: torch.optim.Adam(p, rate, weight_decay=0.01),
        1e-3,
    ),
    "adamw": (
        lambda: ReferenceAdam(weight_decay=0.1, decoupled=True),
        lambda network: adam_trainer(network, weight_decay=0.1, decoupled=True),
        lambda p, rate: torch.optim.AdamW(p, rate, weight_decay=0.1),
        1e-3,
    ),
    "adamw_clipping": (
        lambda: ReferenceAround(ReferenceAdam(weight_decay=0.1, decoupled=True), clip_norm=CLIP_NORM),
        lambda network: adam_trainer(network, weight_decay=0.1, decoupled=True, clip_norm=CLIP_NORM),
        lambda p, rate: Clipping(p, torch.optim.AdamW(p, rate, weight_decay=0.1)),
        1e-3,
    ),
    "sgd_clipping": (
        lambda: ReferenceAround(ReferenceSGD(momentum=0.9, weight_decay=0.01), clip_norm=CLIP_NORM),
        lambda network: sgd_trainer(network, 0.9, weight_decay=0.01, clip_norm=CLIP_NORM),
        lambda p, rate: Clipping(p, torch.optim.SGD(p, rate, momentum=0.9, weight_decay=0.01)),
        0.02,
    ),
}


@pytest.fixture(autouse=True)
def one_torch_thread():
    """Keep PyTorch from dividing such small work between threads, which only wait for one another."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


TORCH_LOSSES = {
    "softmax_cross_entropy": torch.nn.functional.cross_entropy,
    "sigmoid_cross_entropy": torch.nn.functional.binary_cross_entropy_with_logits,
    "squared_error": torch.nn.functional.mse_loss,
}


def train_torch(
    net, activation, X, targets, *, batches, make_optimizer, dtype, weights=None, label_smoothing=0.0
):
    """Train with autograd; return losses, weights and biases as float64 arrays."""
    parameters = [torch.tensor(p, dtype=dtype, requires_grad=True) for p in net.parameters]
    n_layers = net.n_layers
    optimizer = make_optimizer(parameters)
    X = torch.tensor(X, dtype=dtype)
    targets = torch.tensor(targets, dtype=dtype if targets.ndim == 2 else None)
    losses = []
    for batch in batches:
        a = X[batch]
        for layer in range(n_layers):
            a = a @ parameters[layer] + parameters[n_layers + layer]
            if layer < n_layers - 1:
                a = TORCH_ACTIVATIONS[activation](a)
        if weights is None:
            loss = TORCH_LOSSES[net.loss](a, targets[batch])
        else:
            options = {"label_smoothing": label_smoothing} if label_smoothing else {}
            losses_of_samples = TORCH_LOSSES[net.loss](a, targets[batch], reduction="none", **options)
            w = torch.tensor(weights[batch], dtype=dtype)
            loss = (losses_of_samples.reshape(len(batch), -1).mean(dim=1) * w).sum() / w.sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return np.array(losses), [p.detach().numpy().astype(np.float64) for p in parameters]


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_training_of_100_steps_agrees_with_pytorch(optimizer, activation):
    assert_training_agrees(optimizer, activation, "softmax_cross_entropy", "labels")


@pytest.mark.parametrize("loss", ["sigmoid_cross_entropy", "squared_error"])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_training_of_100_steps_with_other_losses_agrees_with_pytorch(optimizer, loss):
    assert_training_agrees(optimizer, "tanh", loss, loss)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("kind", ["labels", "probabilities"])
def test_training_of_100_steps_with_weights_and_smoothing_agrees_with_pytorch(kind, label_smoothing):
    weights = np.random.default_rng(3).random(N_SAMPLES, np.float32)
    how = {"weights": weights, "label_smoothing": label_smoothing}
    assert_training_agrees("adam", "tanh", "softmax_cross_entropy", kind, **how)


@pytest.mark.parametrize("loss", ["sigmoid_cross_entropy", "squared_error"])
def test_training_of_100_steps_with_weights_and_other_losses_agrees_with_pytorch(loss):
    weights = np.random.default_rng(3).random(N_SAMPLES, np.float32)
    assert_training_agrees("adam", "tanh", loss, loss, weights=weights)


def assert_training_agrees(optimizer, activation, loss, kind_of_targets, **how):
    rng = np.random.default_rng(1)
    make_reference, make_trainer, make_torch, rate = OPTIMIZERS[optimizer]
    start = random_net(rng, LAYER_SIZES, [activation] * 2, loss=loss)
    X = random_inputs(rng, "float32", N_SAMPLES, LAYER_SIZES[0])
    targets = random_targets(rng, kind_of_targets, N_SAMPLES, LAYER_SIZES[-1])
    batches = [rng.permutation(N_SAMPLES)[:BATCH_SIZE] for _ in range(N_STEPS)]

    def torch_run(dtype):
        return train_torch(
            start,
            activation,
            X,
            targets,
            batches=batches,
            make_optimizer=lambda parameters: make_torch(parameters, rate),
            dtype=dtype,
            **how,
        )

    oracle = train_beside_twin(start, make_reference, X, targets, batches=batches, rate=rate, **how)
    loss_tolerance, tolerance = oracle.loss_tolerance, oracle.tolerance

    # float64 against float64: both round each of about 100 sums of at most 40 terms by 2^-53, in 100 steps.
    # What that grows to is what float32's errors grow to, times 2^-29: the tolerance is scaled with it.
    double_losses, double_parameters = torch_run(torch.float64)
    np.testing.assert_allclose(double_losses, oracle.losses, rtol=0, atol=loss_tolerance * 2.0**-29)
    for actual, expected in zip(double_parameters, oracle.parameters, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * 2.0**-29)

    # float32 against float32: each may stray from the exact run by the tolerance.
    single_losses, single_parameters = torch_run(torch.float32)
    for instruction_set in INSTRUCTION_SETS:
        network = network_like(start, instruction_set)
        result = run_batches(make_trainer(network), X, targets, batches, rate, **how)
        np.testing.assert_allclose(result.losses, double_losses, rtol=0, atol=loss_tolerance)
        np.testing.assert_allclose(result.losses, single_losses, rtol=0, atol=2 * loss_tolerance)
        actual = parameters_of(network, 3)
        for mine, double, single in zip(actual, double_parameters, single_parameters, strict=True):
            np.testing.assert_allclose(mine, double, rtol=0, atol=tolerance)
            np.testing.assert_allclose(mine, single, rtol=0, atol=2 * tolerance)
    return oracle


def test_clipping_in_the_comparison_clips_most_steps():
    oracle = assert_training_agrees("sgd_clipping", "tanh", "softmax_cross_entropy", "labels")
    assert N_STEPS / 2 < oracle.optimizer.n_clipped < N_STEPS


@pytest.mark.parametrize("kind", ["adam", "sgd"])
def test_averages_of_100_steps_agree_with_pytorch(kind):
    rng = np.random.default_rng(4)
    make_reference, make_torch, rate = {
        "adam": (ReferenceAdam, torch.optim.Adam, 1e-3),
        "sgd": (ReferenceSGD, torch.optim.SGD, 0.1),
    }[kind]
    start = random_net(rng, LAYER_SIZES, ["tanh"] * 2)
    X = random_inputs(rng, "float32", N_SAMPLES, LAYER_SIZES[0])
    labels = random_targets(rng, "labels", N_SAMPLES, LAYER_SIZES[-1])
    batches = [rng.permutation(N_SAMPLES)[:BATCH_SIZE] for _ in range(N_STEPS)]
    made = []

    def averaging(parameters):
        made.append(Averaging(parameters, make_torch(parameters, rate)))
        return made[-1]

    train_torch(start, "tanh", X, labels, batches=batches, make_optimizer=averaging, dtype=torch.float64)
    averages = [p.detach().numpy() for p in made[0].averages.module]
    oracle = train_beside_twin(
        start,
        lambda: ReferenceAround(make_reference(), ema_decay=EMA_DECAY),
        X,
        labels,
        batches=batches,
        rate=rate,
    )
    for expected, actual in zip(averages, oracle.optimizer.averages, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=0, atol=oracle.tolerance * 2.0**-29)
    for instruction_set in INSTRUCTION_SETS:
        network = network_like(start, instruction_set)
        make_trainer = adam_trainer if kind == "adam" else sgd_trainer
        run_batches(make_trainer(network, average_decay=EMA_DECAY), X, labels, batches, rate)
        for mine, expected in zip(parameters_of(network, 3), averages, strict=True):
            # A mean strays no further than what it is the mean of, but for the roundings of each of its
            # steps: of a difference, a product and a sum, of numbers as large as the weights; those of some
            # 1 / (1 - decay) steps add up.
            roundings = 3 * EPSILON / (1 - EMA_DECAY) * np.abs(expected).max()
            np.testing.assert_allclose(mine, expected, rtol=0, atol=oracle.tolerance + roundings)


def test_gradient_of_probability_rows_agrees_with_pytorch():
    rng = np.random.default_rng(2)
    net = random_net(rng, [9, 7, 5], ["gelu"])
    X, T = rng.normal(size=(20, 9)), rng.dirichlet(np.ones(5), 20)
    expected = net.gradients(X, T)
    parameters = [torch.tensor(p, dtype=torch.float64, requires_grad=True) for p in net.parameters]
    hidden = torch.nn.functional.gelu(torch.tensor(X) @ parameters[0] + parameters[2])
    loss = torch.nn.functional.cross_entropy(hidden @ parameters[1] + parameters[3], torch.tensor(T))
    loss.backward()
    for actual, gradient in zip(parameters, [*expected.weights, *expected.biases], strict=True):
        np.testing.assert_allclose(actual.grad.numpy(), gradient, rtol=0, atol=1e-15)


def test_training_of_100_steps_with_batch_norm_agrees_with_pytorch() -> None:
    sizes, n_steps, rate = [30, 24, 17, 6], 100, 1e-3
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(N_SAMPLES, sizes[0])).astype(np.float32), rng.integers(0, sizes[-1], N_SAMPLES)
    batches = [rng.permutation(N_SAMPLES)[:BATCH_SIZE] for _ in range(n_steps)]
    net = Net(sizes, activation="tanh", batch_norm=True, seed=0)
    start = net.weights

    def trained_by_torch(dtype):
        modules = []
        for layer, (n, m) in enumerate(itertools.pairwise(sizes)):
            last = layer == len(sizes) - 2
            linear = torch.nn.Linear(n, m, bias=last, dtype=dtype)
            linear.weight.data = torch.tensor(start[layer].T.copy(), dtype=dtype)
            if last:
                linear.bias.data.zero_()
            modules += [linear] if last else [linear, torch.nn.BatchNorm1d(m, dtype=dtype), torch.nn.Tanh()]
        model = torch.nn.Sequential(*modules)
        optimizer = torch.optim.Adam(model.parameters(), rate)
        for batch in batches:
            optimizer.zero_grad()
            inputs, targets = torch.tensor(X[batch], dtype=dtype), torch.tensor(y[batch])
            torch.nn.functional.cross_entropy(model(inputs), targets).backward()
            optimizer.step()
        norms = [module for module in modules if isinstance(module, torch.nn.BatchNorm1d)]
        statistics = [[norm.bias, norm.weight, norm.running_mean, norm.running_var] for norm in norms]
        arrays = [module.weight.T for module in modules if isinstance(module, torch.nn.Linear)]
        arrays += [array for rows in statistics for array in rows]
        model.eval()
        return [a.detach().numpy().astype(np.float64) for a in (*arrays, model(torch.tensor(X, dtype=dtype)))]

    for batch in batches:
        net.fit(X[batch], y[batch], epochs=1, batch_size=BATCH_SIZE, optimizer=Adam(rate), shuffle=False)
    ours = [*net.weights, *net.biases[0], *net.biases[1], net.logits(X)]
    # Both are float32 beside float64, and round differently: neither strays much farther than the other.
    for actual, other, exact in zip(
        ours, trained_by_torch(torch.float32), trained_by_torch(torch.float64), strict=True
    ):
        np.testing.assert_allclose(actual, exact, rtol=0, atol=8 * np.abs(other - exact).max())
