"""PyTorch: eager, with its fused Adam; with torch.compile; and both of them in bfloat16."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from problems import Parameters, Problem, Samples
from torch import Tensor, nn

from . import BFLOAT16_LOSS, BFLOAT16_PROBABILITY, FLOAT32_LOSS, FLOAT32_PROBABILITY


class Fit:
    version = torch.__version__
    setting = "eager, fused Adam, batches gathered as they are in memory"
    includes = "gathering and converting each batch, steps"
    tolerance = FLOAT32_LOSS

    def __init__(self, problem: Problem, threads: int) -> None:
        torch.set_num_threads(threads)
        self.problem = problem
        self.X = torch.from_numpy(problem.data.X)
        self.y = torch.from_numpy(problem.data.y.astype(np.int64))
        self.net = loaded_net(problem)
        self.linears = [layer for layer in self.net if isinstance(layer, nn.Linear)]
        self.mean_loss = self.make_loss()

    def make_loss(self) -> Any:
        return lambda X, y: nn.functional.cross_entropy(self.net(X), y)

    def reset(self, order: NDArray[np.int64]) -> None:
        self.order = torch.from_numpy(order)
        load(self.linears, self.problem)

    def train(self) -> None:
        optimizer = torch.optim.Adam(self.net.parameters(), lr=self.problem.case.learning_rate, fused=True)
        self.step_loss = torch.empty(len(self.order))
        for step, batch in enumerate(self.order):
            X = as_floats(self.X.index_select(0, batch))
            loss = self.mean_loss(X, self.y.index_select(0, batch))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            self.step_loss[step] = loss.detach()

    def losses(self) -> NDArray[np.float32]:
        return self.step_loss.numpy()

    def parameters(self) -> Parameters:
        weights = [layer.weight.detach().numpy().T for layer in self.linears]
        return weights, [layer.bias.detach().numpy() for layer in self.linears]


class CompiledFit(Fit):
    setting = "torch.compile of the loss, fused Adam, batches gathered as they are in memory"

    def make_loss(self) -> Any:
        return torch.compile(super().make_loss())


class Bfloat16Fit(Fit):
    setting = "eager under bfloat16 autocast, fused Adam, batches gathered as they are in memory"
    tolerance = BFLOAT16_LOSS

    def make_loss(self) -> Any:
        mean_loss = super().make_loss()

        def autocast_loss(X: Tensor, y: Tensor) -> Tensor:
            with torch.autocast("cpu", torch.bfloat16):
                loss: Tensor = mean_loss(X, y)
            return loss

        return autocast_loss


class CompiledBfloat16Fit(Bfloat16Fit):
    setting = "torch.compile of the loss under bfloat16 autocast, fused Adam, batches gathered as they are"

    def make_loss(self) -> Any:
        return torch.compile(super().make_loss())


class Predict:
    version = torch.__version__
    setting = "eager, inference mode"
    includes = "conversion of the samples, the way to NumPy's array"
    tolerance = FLOAT32_PROBABILITY
    dtype = torch.float32

    def __init__(self, problem: Problem, threads: int) -> None:
        torch.set_num_threads(threads)
        self.net = loaded_net(problem).eval().to(self.dtype)
        self.probabilities = self.make_probabilities()

    def make_probabilities(self) -> Any:
        return lambda X: self.net(as_floats(X).to(self.dtype)).float().softmax(1)

    @torch.inference_mode()
    def predict_proba(self, X: Samples) -> NDArray[np.float32]:
        array: NDArray[np.float32] = self.probabilities(torch.from_numpy(X)).numpy()
        return array


class CompiledPredict(Predict):
    setting = "torch.compile, inference mode"

    def make_probabilities(self) -> Any:
        # One compilation for each number of samples, as for all compiled peers.
        return torch.compile(super().make_probabilities(), dynamic=False)


class Bfloat16Predict(Predict):
    setting = "eager, inference mode, weights and samples in bfloat16"
    tolerance = BFLOAT16_PROBABILITY
    dtype = torch.bfloat16


class CompiledBfloat16Predict(CompiledPredict):
    setting = "torch.compile, inference mode, weights and samples in bfloat16"
    tolerance = BFLOAT16_PROBABILITY
    dtype = torch.bfloat16


def loaded_net(problem: Problem) -> nn.Sequential:
    layers: list[nn.Module] = []
    for n_inputs, n_outputs in itertools.pairwise(problem.case.layer_sizes):
        layers += [nn.Linear(n_inputs, n_outputs), nn.ReLU()]
    load(layers[0::2], problem)
    return nn.Sequential(*layers[:-1])


@torch.no_grad()
def load(linears: Any, problem: Problem) -> None:
    for linear, weights, biases in zip(linears, problem.weights, problem.biases, strict=True):
        linear.weight.copy_(torch.from_numpy(weights).T)  # PyTorch has one row per output
        linear.bias.copy_(torch.from_numpy(biases))


def as_floats(X: Tensor) -> Tensor:
    return X.float().mul_(1 / 255) if X.dtype == torch.uint8 else X
