"""PyTorch: eager, with its fused Adam; and the same with torch.compile."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from cases import Problem
from numpy.typing import NDArray
from torch import Tensor, nn


class PyTorch:
    version = torch.__version__
    setting = "eager, fused Adam, batches gathered as uint8"
    includes = "gathering and converting each batch, steps"
    same_start_and_order = True

    def __init__(self, problem: Problem, threads: int) -> None:
        torch.set_num_threads(threads)
        self.problem = problem
        self.images, self.order = torch.from_numpy(problem.images), torch.from_numpy(problem.order)
        self.labels = torch.from_numpy(problem.labels.astype(np.int64))
        layers: list[nn.Module] = []
        for n_inputs, n_outputs in itertools.pairwise(problem.case.layer_sizes):
            layers += [nn.Linear(n_inputs, n_outputs), nn.ReLU()]
        self.net = nn.Sequential(*layers[:-1])
        self.linears = [layer for layer in self.net if isinstance(layer, nn.Linear)]
        self.loss = self.make_loss()

    def make_loss(self) -> Callable[[Tensor, Tensor], Tensor]:
        return lambda X, y: nn.functional.cross_entropy(self.net(X), y)

    def reset(self) -> None:
        with torch.no_grad():
            for linear, weights, biases in zip(
                self.linears, self.problem.weights, self.problem.biases, strict=True
            ):
                linear.weight.copy_(torch.from_numpy(weights).T)  # PyTorch has one row per output
                linear.bias.copy_(torch.from_numpy(biases))

    def train(self) -> None:
        optimizer = torch.optim.Adam(self.net.parameters(), lr=self.problem.case.learning_rate, fused=True)
        self.step_loss = torch.empty(self.problem.steps)
        for step, batch in enumerate(self.order):
            X = self.images.index_select(0, batch).float().mul_(1 / 255)
            loss = self.loss(X, self.labels.index_select(0, batch))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            self.step_loss[step] = loss.detach()

    def losses(self) -> NDArray[np.float32]:
        return self.step_loss.numpy()

    def parameters(self) -> tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]]:
        weights = [layer.weight.detach().numpy().T for layer in self.linears]
        return weights, [layer.bias.detach().numpy() for layer in self.linears]


class CompiledPyTorch(PyTorch):
    setting = "torch.compile of the loss, fused Adam, batches gathered as uint8"

    def make_loss(self) -> Callable[[Tensor, Tensor], Tensor]:
        compiled: Any = torch.compile(super().make_loss())
        return compiled
