"""The compiled core. Private: it checks what memory safety needs; `fastmlp.Net` is the public face."""

from collections.abc import Sequence
from typing import final

import numpy as np
from numpy.typing import NDArray

def build_info() -> dict[str, str]:
    """Version, compiler and OpenMP the extension was built with."""

def threads_by_default() -> int:
    """How many threads OpenMP would give the calling thread."""

def assume_far(far: bool | None) -> None:
    """Take threads' caches for far from one another, or for near; None: measure their distance again."""

def l2_cache_size() -> int:
    """Bytes of a core's L2 cache; 1 MB if the processor does not say."""

def cpu_name() -> str:
    """Name of this machine's processor."""

def compiled_instruction_sets() -> list[str]:
    """Names of the instruction sets compiled in, slowest first: e.g. baseline, avx2, avx512."""

def supported_instruction_sets() -> list[str]:
    """Those of `compiled_instruction_sets` that this machine can run."""

def selected_instruction_set() -> tuple[str, str]:
    """Name of the set a new Network uses, and why; RuntimeError if FASTMLP_ISA names one that is lacking."""

def philox_permutation(
    seed: int, purpose: int, stream: int, n: int, n_streams: int = 1, threads: int = 1
) -> NDArray[np.int64]:
    """A uniform permutation of range(n); depends on (seed, purpose, stream, n) alone.

    With n_streams, those of so many streams from this one on, one after the other: (n_streams * n,); by so
    many threads, 0 for as many as there are processors, if that is worth it.
    """

def philox_uniform(seed: int, purpose: int, stream: int, n: int) -> NDArray[np.float64]:
    """n numbers uniform in (0, 1); element i depends on (seed, purpose, stream, i) alone."""

def philox_normal(seed: int, purpose: int, stream: int, n: int) -> NDArray[np.float64]:
    """n standard normal numbers; element i depends on (seed, purpose, stream, i) alone."""

def scaled_uniform(
    seed: int, purpose: int, stream: int, n: int, scale: float, shift: float
) -> NDArray[np.float32]:
    """scale * philox_uniform(...) + shift, whatever the caller's floating-point state."""

def scaled_normal(
    seed: int, purpose: int, stream: int, n: int, scale: float, shift: float
) -> NDArray[np.float32]:
    """scale * philox_normal(...) + shift, whatever the caller's floating-point state."""

@final
class Network:
    """A net's parameters, and the forward pass. Safe to use from several threads at once."""

    def __init__(
        self,
        layer_sizes: Sequence[int],
        activations: Sequence[str],
        *,
        mixed_bfloat16: bool = False,
        loss: str = "softmax_cross_entropy",
        batch_norm: Sequence[bool] = ...,
        instruction_set: str = "",
    ) -> None: ...
    @property
    def instruction_set(self) -> str: ...
    @property
    def is_finite(self) -> bool: ...
    def weights(self, layer: int) -> NDArray[np.float32]:
        """Copy of a layer's weights, (n_inputs, n_outputs)."""

    def biases(self, layer: int) -> NDArray[np.float32]:
        """Copy of a layer's biases, (n_outputs,), or (4, n_outputs) with batch normalisation.

        The latter are shift, scale, running mean and running variance.
        """

    def set_parameters(
        self, weights: Sequence[NDArray[np.float32]], biases: Sequence[NDArray[np.float32]]
    ) -> None:
        """Assign all layers at once; ValueError, and nothing changed, if any shape differs."""

    def forward(
        self, X: NDArray[np.uint8] | NDArray[np.float32], n_layers: int, threads: int
    ) -> NDArray[np.float32]:
        """Output of the first n_layers layers, (n_samples, layer_sizes[n_layers]).

        Hidden layers end in their activation, the last one in logits. X: (n_samples, n_features).
        threads: 0 leaves the number to the size of the work and the machine; a positive number is the limit.
        Raises NonFiniteInput (ValueError) with the row if X holds a non-finite value, and NonFiniteOutput if
        a logit is not finite though X is.
        """

    def active_units(
        self, X: NDArray[np.uint8] | NDArray[np.float32], n_layers: int, threads: int
    ) -> NDArray[np.bool_]:
        """Which units of the first n_layers layers give anything but 0 for any sample, layer after layer.

        Raises as forward does, but outputs may be anything.
        """

    def softmax(self, X: NDArray[np.uint8] | NDArray[np.float32], threads: int) -> NDArray[np.float32]:
        """Class probabilities, (n_samples, n_classes)."""

    def softmax_of_few(self, X: object) -> NDArray[np.float32] | None:
        """As softmax, at once, for a few samples in an array that can be used in place; else None.

        Each sample may have any shape of n_features numbers.
        """

    def sigmoid(self, X: NDArray[np.uint8] | NDArray[np.float32], threads: int) -> NDArray[np.float32]:
        """Probabilities of independent outputs, (n_samples, n_outputs)."""

    def evaluate(
        self,
        X: NDArray[np.uint8] | NDArray[np.float32],
        targets: NDArray[np.int64] | NDArray[np.float32],
        threads: int,
        sample_weights: NDArray[np.float32] | None = None,
    ) -> tuple[float, NDArray[np.int64]]:
        """Sum of the samples' weighted losses, and the class of the largest output of each sample.

        targets: int64 class indices (n_samples,) for softmax_cross_entropy, or float32 (n_samples,
        n_outputs).
        """

    def evaluate_outputs(
        self,
        X: NDArray[np.uint8] | NDArray[np.float32],
        targets: NDArray[np.int64] | NDArray[np.float32],
        threads: int,
        sample_weights: NDArray[np.float32] | None = None,
    ) -> tuple[float, NDArray[np.float32]]:
        """As evaluate, with the output of the last layer, (n_samples, n_outputs)."""

@final
class Augmentation:
    """Random distortions of images of one size; shift, alpha and sigma in pixels, angles in degrees."""

    def __init__(
        self,
        height: int,
        width: int,
        *,
        seed: int,
        shift: float,
        rotation: float,
        scale: float,
        shear: float,
        alpha: float,
        sigma: float,
    ) -> None: ...
    def apply(
        self, images: NDArray[np.uint8], epoch: int, threads: int, instruction_set: str = ""
    ) -> NDArray[np.uint8]:
        """The images (n_images, height, width), distorted as samples number 0, 1, ... of this epoch.

        threads: 0 leaves the number to the size of the work and the machine; a positive number is the limit.
        """

@final
class TrainerState:
    """A copy of everything a Trainer changes: parameters, moments, step count."""

    # Of "parameters", "first_moment", for Adam "second_moment", and, if parameters are averaged, "average":
    # weights and biases, layer after layer.
    arrays: dict[str, list[NDArray[np.float32]]]
    beta_powers: tuple[float, float]  # Adam's beta_1 and beta_2 to the power of the steps done, else 1
    average_power: float  # average_decay to the power of the steps averaged over, else 1

@final
class RunResult:
    """What one call of Trainer.run did."""

    losses: NDArray[np.float32]  # mean loss of each step that was done (its update included)
    # Weight (number, if all are 1) of each step's samples predicted rightly before its update; empty unless
    # the loss is softmax_cross_entropy.
    right: NDArray[np.float32]
    # "" if every step was done; "loss": the next step's loss or a parameter is not finite; "input": X is not.
    stopped: str
    bad_sample: (
        int  # index into X of the first sample with a non-finite value when stopped == "input", else -1
    )
    team_size: int  # threads that really ran
    thread_distance: float  # nanoseconds for a line between their caches; inf or 0 if assumed
    tasks_per_thread: list[int]  # how many pieces of work each of them did

@final
class Trainer:
    """Optimiser state of one network, and the training step."""

    def __init__(self, network: Network) -> None: ...
    def set_adam(
        self,
        *,
        beta_1: float,
        beta_2: float,
        epsilon: float,
        weight_decay: float = 0.0,
        decoupled: bool = False,
        clip_norm: float = ...,
        max_norm: float = ...,
        average_decay: float = 0.0,
    ) -> None:
        """Use Adam, or AdamW if the weight decay is decoupled.

        Moments and step count are kept if either was in use before, else start from zero. The gradient's norm
        is clipped to clip_norm, and the norm of each unit's incoming weights to max_norm, unless infinite. If
        average_decay is not 0, parameters are averaged: outside of run, the network has the averages, and the
        trainer the live parameters; both are the network's present ones at first. If it is 0 again, the
        network gets the live ones back.
        """

    def set_sgd(
        self,
        *,
        momentum: float,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        clip_norm: float = ...,
        max_norm: float = ...,
        average_decay: float = 0.0,
    ) -> None:
        """Use SGD with momentum. Velocities are kept if SGD was in use before, else start from zero.

        The rest is as for set_adam.
        """

    def restart_average(self) -> None:
        """Take the network's parameters, which have been set, for the live ones, and average anew."""

    def set_dropout(self, seed: int, rates: Sequence[float]) -> None:
        """Drop inputs and hidden units from now on: a rate in [0, 1) for the input and each hidden layer."""

    def run(
        self,
        X: NDArray[np.uint8] | NDArray[np.float32],
        targets: NDArray[np.int64] | NDArray[np.float32],
        order: NDArray[np.int64],
        offsets: NDArray[np.int64],
        learning_rates: NDArray[np.float64],
        threads: int,
        threads_are_required: bool,
        sample_weights: NDArray[np.float32] | None = None,
        label_smoothing: float = 0.0,
        augmentation: Augmentation | None = None,
        epoch: int = 0,
        ids: NDArray[np.int64] | None = None,
        first_sample: int = 0,
        samples_per_epoch: int = 0,
    ) -> RunResult:
        """Train one step per batch; step s uses order[offsets[s]:offsets[s + 1]] and learning_rates[s].

        The loss of a batch is the mean of its samples' losses, weighted by sample_weights (n_samples,), at
        least 0; a batch whose weights are all 0 has loss and gradient 0. label_smoothing is in [0, 1).
        The GIL is released. threads is the number to use if threads_are_required, else an upper limit.
        All is checked before any work: indices in order, and these samples' targets; offsets rise from 0 to
        len(order).
        Stops before the update of a step whose loss or input is not finite.
        augmentation distorts the images on their way; X must be uint8. How depends on epoch and on a sample's
        number: its index in X, or the element of ids there.
        Dropout depends on a sample's epoch and its place there: that of the first one is first_sample of
        epoch, and an epoch has samples_per_epoch; 0 stands for one without end.
        """

    def snapshot(self) -> TrainerState: ...
    def restore(self, state: TrainerState) -> None: ...
    def state_of(
        self,
        arrays: dict[str, list[NDArray[np.float32]]],
        beta_powers: tuple[float, float],
        average_power: float = 1.0,
    ) -> TrainerState:
        """The state, of the optimiser in use, with these arrays; ValueError if a name or shape differs."""

class NonFiniteInput(ValueError):
    """X holds a non-finite value; args[0] is the index of the first such sample."""

class NonFiniteOutput(ArithmeticError):
    """A logit is not finite; args[0] is the index of the first such sample."""

class kernels:
    """Single kernels of a chosen instruction set, for tests; a submodule. Arrays are float32 if not noted."""

    @staticmethod
    def has_pair_products(instruction_set: str) -> bool:
        """Whether the set has products of bfloat16 pairs: `pairs=True` is a ValueError where it has none."""

    @staticmethod
    def multiply(
        instruction_set: str, a: NDArray[np.float32], b: NDArray[np.float32], pairs: bool = False
    ) -> NDArray[np.float32]:
        """a @ b."""

    @staticmethod
    def multiply_transposed(
        instruction_set: str, a: NDArray[np.float32], b: NDArray[np.float32], pairs: bool = False
    ) -> NDArray[np.float32]:
        """a.T @ b."""

    @staticmethod
    def multiply_by_transposed(
        instruction_set: str, a: NDArray[np.float32], w: NDArray[np.float32], pairs: bool = False
    ) -> NDArray[np.float32]:
        """a @ w.T."""

    @staticmethod
    def multiply_listed(
        instruction_set: str, a: NDArray[np.float32], b: NDArray[np.float32], pairs: bool = False
    ) -> NDArray[np.float32]:
        """a @ b, without the words of a that are 0."""

    @staticmethod
    def has_grouped_product(instruction_set: str) -> bool:
        """Whether the set has multiply_grouped."""

    @staticmethod
    def multiply_grouped(
        instruction_set: str, a: NDArray[np.float32], b: NDArray[np.float32], n_parts: int = 1
    ) -> NDArray[np.float32]:
        """a @ b, without the groups of words of a that are 0; listed in n_parts parts of its rows."""

    @staticmethod
    def multiply_transposed_listed(
        instruction_set: str,
        a: NDArray[np.float32],
        b: NDArray[np.float32],
        n_parts: int = 1,
        pairs: bool = False,
    ) -> NDArray[np.float32]:
        """a.T @ b, without the words of a that are 0; its rows are listed in n_parts parts."""

    @staticmethod
    def sum_rows(instruction_set: str, a: NDArray[np.float32], pairs: bool = False) -> NDArray[np.float32]:
        """Sums of the columns, as one row."""

    @staticmethod
    def pack_uint8(
        instruction_set: str, a: NDArray[np.uint8], index: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """a[index] as float32."""

    @staticmethod
    def pack_float(
        instruction_set: str, a: NDArray[np.float32], to_bfloat16: bool
    ) -> tuple[NDArray[np.float32], bool]:
        """a, rounded if asked for, and whether all of it is finite."""

    @staticmethod
    def pack_uint8_pairs(
        instruction_set: str, a: NDArray[np.uint8], index: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """a[index] in pairs of columns and of rows; an odd last one is paired with zeros."""

    @staticmethod
    def pack_float_pairs(
        instruction_set: str, a: NDArray[np.float32], index: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], bool]:
        """a[index] in pairs of columns and of rows, rounded, and whether all of it is finite."""

    @staticmethod
    def pair(instruction_set: str, a: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """a in pairs of columns and of rows, rounded; an odd last one is paired with zeros."""

    @staticmethod
    def count_nonzeros(
        instruction_set: str, a: NDArray[np.uint8] | NDArray[np.float32], together: int = 1
    ) -> NDArray[np.int64]:
        """Non-zeros of each row, or with together=4 groups of columns that have any."""

    @staticmethod
    def write_operand(instruction_set: str, value: NDArray[np.float32]) -> NDArray[np.float32]:
        """Value as products take it in mixed_bfloat16; in pairs, an odd last row is followed by zeros."""

    @staticmethod
    def average(
        instruction_set: str, averages: NDArray[np.float32], value: NDArray[np.float32], part: float
    ) -> tuple[NDArray[np.float32], bool]:
        """averages + part * (value - averages), of matrices, and whether all of it is finite."""

    @staticmethod
    def add_squares(instruction_set: str, a: NDArray[np.float32]) -> NDArray[np.float64]:
        """Sums of the columns' squares, in float64, in rising order of rows."""

    @staticmethod
    def scale_columns(
        instruction_set: str, a: NDArray[np.float32], factors: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """a * factors, which are one row."""

    @staticmethod
    def bias_activation(
        instruction_set: str,
        activation: str,
        z: NDArray[np.float32],
        bias: NDArray[np.float32],
        scale: float,
        to_bfloat16: bool,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The activation f(scale * z + bias), and its argument; bias is one row."""

    @staticmethod
    def activation_backward(
        instruction_set: str,
        activation: str,
        delta: NDArray[np.float32],
        saved: NDArray[np.float32],
        to_bfloat16: bool,
    ) -> NDArray[np.float32]:
        """Delta times the slope at the saved activation (gelu: its argument)."""

    @staticmethod
    def softmax(instruction_set: str, outputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Class probabilities."""

    @staticmethod
    def sigmoid(instruction_set: str, outputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probabilities of independent outputs."""

    @staticmethod
    def softmax_cross_entropy(
        instruction_set: str,
        outputs: NDArray[np.float32],
        targets: NDArray[np.int64] | NDArray[np.float32],
        delta_scale: float,
        to_bfloat16: bool,
        weights: NDArray[np.float32] | None = None,
        label_smoothing: float = 0.0,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Losses, and the gradient of the outputs times delta_scale and the row's weight."""

    @staticmethod
    def sigmoid_cross_entropy(
        instruction_set: str,
        outputs: NDArray[np.float32],
        targets: NDArray[np.float32],
        delta_scale: float,
        to_bfloat16: bool,
        weights: NDArray[np.float32] | None = None,
        label_smoothing: float = 0.0,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """As softmax_cross_entropy, of independent outputs."""

    @staticmethod
    def squared_error(
        instruction_set: str,
        outputs: NDArray[np.float32],
        targets: NDArray[np.float32],
        delta_scale: float,
        to_bfloat16: bool,
        weights: NDArray[np.float32] | None = None,
        label_smoothing: float = 0.0,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """As softmax_cross_entropy, of the mean squared error."""

    @staticmethod
    def adam(
        instruction_set: str,
        gradient: NDArray[np.float32],
        value: NDArray[np.float32],
        first_moment: NDArray[np.float32],
        second_moment: NDArray[np.float32],
        step: int,
        learning_rate: float,
        beta_1: float,
        beta_2: float,
        epsilon: float,
        weight_decay: float = 0.0,
        decoupled: bool = False,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Value and moments after step number `step`, from 1, and the value as an operand, 16 a row.

        The length is a multiple of 16.
        """

    @staticmethod
    def sgd(
        instruction_set: str,
        gradient: NDArray[np.float32],
        value: NDArray[np.float32],
        velocity: NDArray[np.float32],
        learning_rate: float,
        momentum: float,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Value and velocity after one step, and the value as an operand, 16 a row.

        The length is a multiple of 16.
        """

    @staticmethod
    def random_fields(
        instruction_set: str,
        seed: int,
        purpose: int,
        stream: int,
        first_counter: int,
        scale: float,
        taps: NDArray[np.int16],
        height: int,
        width: int,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Two fields (height, width) of noise, convolved both ways with an odd number of taps."""

    @staticmethod
    def resample(
        instruction_set: str,
        image: NDArray[np.uint8],
        coefficients: NDArray[np.float32],
        displacement: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None,
    ) -> NDArray[np.uint8]:
        """The image (height, width) at other places than its pixels, bilinear; 0 outside of it.

        coefficients: column_x, row_x, offset_x, column_y, row_y, offset_y.
        """
