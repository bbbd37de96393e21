"""`Net`: a multilayer perceptron to fit, evaluate, predict with, save and load."""

from __future__ import annotations

import math
import os
import threading
import warnings
import weakref
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastmlp import _core, _notes, _validation, model_file
from fastmlp._job import Job, checked_job, checked_samples_and_targets
from fastmlp._observers import Observers
from fastmlp._prediction import loss_and_predicted, outputs
from fastmlp._random import draw_seed
from fastmlp._run import Run, Settings, Steps
from fastmlp._sample_weights import ClassWeight, combined_weights
from fastmlp._samples import CoreSamples, Samples
from fastmlp._scale import Scale, doubt_before_prediction, doubts_before_fit
from fastmlp._schedule import Schedule
from fastmlp._shared_network import Parameters, SharedNetwork
from fastmlp._threads import MAX_THREADS, thread_count
from fastmlp._training import Training
from fastmlp.augment import Augmentation
from fastmlp.callbacks import Callback, Fit
from fastmlp.errors import NonFiniteLossError
from fastmlp.history import History
from fastmlp.initializers import Initializer, checked_initializer, initial_parameters
from fastmlp.losses import Loss, loss_named
from fastmlp.metrics import Evaluation
from fastmlp.optimizers import Optimizer

_DEFAULTS = Settings()
_SETTLED = frozenset(
    {"layer_sizes", "activations", "initializer", "precision", "loss", "batch_norm", "dropout", "seed"}
)
_BATCH_NORM_EPSILON = float(np.float32(1e-5))  # the core's kBatchNormEpsilon


class Net:
    """A multilayer perceptron: dense layers that classify, or learn several labels or numbers at once.

    Parameters
    ----------
    layer_sizes : sequence of int
        Units of each layer, inputs first and classes (or other outputs) last: ``[784, 200, 10]`` has one
        hidden layer of 200 units. At least two numbers, each at least 1.
    activation : str or sequence of str, default "relu"
        relu, tanh, sigmoid, identity, leaky_relu (slope 0.01 below 0) or gelu (x times the normal
        distribution function of x); one for all hidden layers, or one for each.
    initializer : str or Normal, default "he_normal"
        Distribution of the initial weights: he_normal, he_uniform, glorot_normal, glorot_uniform (see
        `initializers`), or ``Normal(mean, std, bias_too=True)``. Biases start at 0 but for the latter.
    precision : {"float32", "mixed_bfloat16"}, default "float32"
        mixed_bfloat16 rounds the operands of matrix products to bfloat16; weights, moments and sums are
        float32 all the same.
    loss : str, default "softmax_cross_entropy"
        What the outputs are and what training makes small. softmax_cross_entropy: one class for each sample;
        sigmoid_cross_entropy: several labels, each true or not (multi-label); squared_error: numbers
        (regression). `fastmlp.losses` has the formulas.
    batch_norm : bool or sequence of bool, default False
        Whether hidden layers, or which of them, have batch normalisation between weights and activation: in
        training each unit's sums are shifted and scaled to mean 0 and variance 1 (plus 1e-5) over the batch,
        and then by what is learned; in prediction by running statistics, of which each batch of two samples
        or more makes a tenth (its variance with n - 1). `fold_batch_norm` makes a net without it that
        predicts the same.
    dropout : float or sequence of float, default 0.0
        Which part of the units, in [0, 1), is left out in training, drawn anew for each sample of each step:
        a number for all hidden layers, or one for the input and one for each hidden layer, such as
        ``[0.2, 0.5]`` for one hidden layer. What is kept is divided by the probability of keeping it, so
        that predictions need no dropout. Rates are rounded to multiples of 2**-16.
    seed : int, optional
        In [0, 2**64). It decides the initial weights, the order of samples and dropout. With precision
        float32 the same seed, data and settings give the same weights, bit for bit, for any number of
        threads. By default it is drawn from the operating system, and can be read from the attribute `seed`.

    Attributes
    ----------
    layer_sizes : tuple of int
        This and all down to `seed` cannot be set later.
    activations : tuple of str
        One for each hidden layer.
    initializer : str or Normal
    precision : str
    loss : str
    batch_norm : tuple of bool
        One for each hidden layer.
    dropout : tuple of float
        For the input and for each hidden layer.
    seed : int
    history : History
        Of the fit under way, or else the last one; empty before the first.
    n_epochs : int
        Epochs begun in the net's life. The order of samples in the next epoch depends on it.

    Raises
    ------
    TypeError
        If an argument is of a wrong type.
    ValueError
        If a number is out of range or a name is unknown.
    MemoryError
        If the parameters do not fit into memory.
    RuntimeError
        If the environment variable FASTMLP_ISA names an instruction set that this machine lacks.

    Notes
    -----
    Several threads may predict with one net at once. While one thread fits it, others may predict
    with it, save it and read its weights: they see the weights after some whole step. A second fit at the
    same time raises RuntimeError.

    A Net can be pickled and copied (`copy.deepcopy`): like a saved one, the copy has the weights, settings
    and history, but not the optimiser's moments.

    References
    ----------
    N. Srivastava, G. Hinton, A. Krizhevsky, I. Sutskever, R. Salakhutdinov: Dropout: A Simple Way to Prevent
    Neural Networks from Overfitting, JMLR 15, 2014; but scaled in training ("inverted", its section 10), not
    in prediction.

    Examples
    --------
    Learn which of two numbers is the larger one:

    >>> import numpy as np
    >>> from fastmlp import Adam, Net
    >>> X = np.random.default_rng(0).random((1000, 2), dtype=np.float32)
    >>> y = (X[:, 1] > X[:, 0]).astype(int)
    >>> net = Net([2, 16, 2], seed=0)
    >>> net
    <Net 2 -> 16 relu -> 2: 82 parameters, float32, seed 0, 0 epochs>
    >>> history = net.fit(X, y, epochs=30, batch_size=50, optimizer=Adam(learning_rate=0.01))
    >>> net.predict([[0.1, 0.8], [0.7, 0.2]])
    array([1, 0])
    >>> net.evaluate(X, y).accuracy > 0.95
    True

    Learn the two numbers' sum instead:

    >>> net = Net([2, 16, 1], loss="squared_error", seed=0)
    >>> history = net.fit(X, X.sum(axis=1), epochs=30, batch_size=50, optimizer=Adam(learning_rate=0.01))
    >>> bool(abs(net.predict([[0.1, 0.8]])[0] - 0.9) < 0.1)
    True
    """

    def __init__(
        self,
        layer_sizes: Sequence[int],
        *,
        activation: str | Sequence[str] = "relu",
        initializer: Initializer = "he_normal",
        precision: str = "float32",
        loss: str = "softmax_cross_entropy",
        batch_norm: bool | Sequence[bool] = False,
        dropout: float | Sequence[float] = 0.0,
        seed: int | None = None,
    ) -> None:
        sizes = _validation.layer_sizes(layer_sizes)
        self._set_up(
            sizes,
            _validation.activations(activation, len(sizes) - 2),
            checked_initializer(initializer),
            _validation.one_of(precision, "precision", _validation.PRECISIONS),
            loss_named(loss),
            _validation.batch_norm(batch_norm, len(sizes) - 2),
            _validation.dropout_rates(dropout, len(sizes) - 2),
            draw_seed() if seed is None else _validation.seed(seed),
        )
        self._network.assign(initial_parameters(sizes, self.initializer, self.seed, self.batch_norm))

    def __setattr__(self, name: str, value: object) -> None:
        if name in _SETTLED and "_network" in self.__dict__:
            raise AttributeError(f"{name} is settled when a net is made and cannot be set later.")
        super().__setattr__(name, value)

    def _set_up(
        self,
        layer_sizes: tuple[int, ...],
        activations: tuple[str, ...],
        initializer: Initializer,
        precision: str,
        loss: Loss,
        batch_norm: tuple[bool, ...],
        dropout: tuple[float, ...],
        seed: int,
    ) -> None:
        """Set every attribute; the arguments have been checked, and all parameters are zero."""
        self.layer_sizes = layer_sizes
        self.activations = activations
        self.initializer = initializer
        self.precision = precision
        self.loss = loss.name
        self.batch_norm = batch_norm
        self.dropout = dropout
        self.seed = seed
        self.history = History()
        self.n_epochs = 0
        self._image_shape: tuple[int, ...] | None = None
        self._scale: Scale | None = None  # of what the weights were trained on
        self._class_names: tuple[str, ...] | None = None
        self._loss = loss
        self._network = SharedNetwork(
            layer_sizes,
            activations,
            mixed_bfloat16=precision == "mixed_bfloat16",
            loss=loss.name,
            batch_norm=batch_norm,
            dropout=dropout,
            seed=seed,
        )
        self._last_run: _core.RunResult | None = None
        self._fitting = threading.Lock()
        self._fit_thread: int | None = None
        self._n_fits = 0
        self._run: Run | None = None  # under way, or interrupted
        self._observers: Observers | None = None  # of the run under way
        self._is_telling = False  # one of them, when all is in a state to be saved
        _nets.add(self)

    # Training.

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        epochs: int | None = None,
        steps: int | None = None,
        batch_size: int = _DEFAULTS.batch_size,
        optimizer: Optimizer = _DEFAULTS.optimizer,
        schedule: Schedule = _DEFAULTS.schedule,
        validation_data: tuple[ArrayLike, ArrayLike] | None = None,
        validation_split: float = 0.0,
        callbacks: Iterable[Callback] = (),
        shuffle: bool = True,
        augment: Augmentation | None = None,
        sample_weight: ArrayLike | None = None,
        class_weight: ClassWeight | None = None,
        label_smoothing: float = 0.0,
        threads: int | None = None,
        progress: bool | None = None,
        resume: bool = False,
    ) -> History:
        """Train on batches of samples, and return what happened.

        A further fit trains on from where the last one ended: with a constant learning rate,
        ``fit(epochs=5)`` twice equals ``fit(epochs=10)``, bit for bit. The optimiser's moments are kept
        unless an optimiser of another kind is given.

        Parameters
        ----------
        X : array_like
            Samples, (n_samples, n_features), or (n_samples, ...) with n_features elements in each sample.
            uint8 means pixels, which count as p / 255; all other real numbers are taken as they are.
            C-contiguous arrays of uint8 and float32 are used in place; others are converted some rows at a
            time (at most 32 MB or one batch).
        y : array_like
            Class labels, integers (n_samples,) from 0 to n_classes - 1; or class probabilities (n_samples,
            n_classes), at least 0 and with a sum of 1 (to within 0.001) in each row. With
            loss="sigmoid_cross_entropy", labels from 0 to 1, mostly 0 or 1, (n_samples, n_outputs); with
            "squared_error", numbers (n_samples, n_outputs). For a single output these two may be
            (n_samples,).
        epochs : int, optional
            How often to go through all samples, at least 1; 10 if `steps` is not given either.
        steps : int, optional
            Instead of `epochs`: how many batches to train on, at least 1. An epoch that they do not fill is
            cut short; a further fit begins a new one.
        batch_size : int, default 128
            Samples for each update, at least 1. The last batch of an epoch holds what is left.
        optimizer : Adam, AdamW or SGD, default Adam()
            How gradients change the weights. With its `ema_decay`, the net holds averages of the weights,
            from the first step on: validation, callbacks and all that comes after the fit use these, while
            training goes on from the live weights.
        schedule : Schedule, default schedules.Constant()
            How the optimiser's learning rate changes from step to step.
        validation_data : tuple of array_like, optional
            (X, y) to evaluate at the end of each epoch, without weights and label smoothing.
        validation_split : float, default 0.0
            Instead: which fraction of the samples, in [0, 1), to leave for validation. They are the last ones
            of X as it is given, as in Keras, so X should be in random order.
        callbacks : sequence of Callback, default ()
            Observers, such as `EarlyStopping`, called in this order.
        shuffle : bool, default True
            Whether every epoch has a random order of its own, drawn from the net's seed and the number of the
            epoch.
        augment : Augmentation, optional
            Distort the images at random, each of them anew in each epoch. X must hold pixels (uint8), as
            (n_samples, height, width) or of square images. Validation data stay as they are.
        sample_weight : array_like, optional
            How much each sample of X counts: real numbers (n_samples,) of at least 0, not all 0. The loss of
            a batch is sum(weight * loss) / sum(weight): ratios matter, not sizes. A batch whose weights are
            all 0 has a loss and a gradient of 0. Weights do not enter the statistics of batch normalisation:
            with it, weight 2 is not the same as the sample twice.
        class_weight : dict or "balanced", optional
            How much the samples of each class count, by label, at least 0; 1 for labels that are not in the
            dict. "balanced" makes all classes of the training samples count alike: n_samples / (number of
            classes present * samples of the class). A sample with class probabilities is one of its most
            probable class; a sample_weight is multiplied by this. For softmax_cross_entropy only.
        label_smoothing : float, default 0.0
            In [0, 1). A part s of each label is spread over all: a target t is taken for (1 - s) * t + s / n,
            where n is the number of classes, or 2 for the labels of sigmoid_cross_entropy. Not for
            squared_error.
        threads : int, optional
            Use exactly this many threads, from 1 to 1024. By default as many as the work is worth, at most
            FASTMLP_NUM_THREADS, or else OMP_NUM_THREADS, the processors of this process, and its CPU quota.
        progress : bool, optional
            Whether to show progress: the same as a `Progress()` among the callbacks. By default nothing is
            shown.
        resume : bool, default False
            Whether to finish the fit that was interrupted, instead of beginning a new one. It goes on with
            the next step, in the middle of an epoch too, and ends with the bits of one that was never
            interrupted. Pass the same data, weights of samples and classes included; settings are those it
            began with, and may be left out; so may `EarlyStopping`, while other callbacks are to be passed
            again. In a new process, load the net from the file of a `Checkpoint`.

        Returns
        -------
        History
            Losses and more for each epoch and step; also in the attribute `history`, even while the fit is
            under way, or after it was interrupted.

        Raises
        ------
        TypeError
            If an argument is of a wrong type.
        ValueError
            If an argument has a wrong shape or value, or there are no samples; if there is no fit to resume,
            or it began with other settings or data, as far as 64 of their rows tell; if the net would have
            more than 2**31 epochs in its life. These checks come before any work: the net is as it was
            before.
        fastmlp.NonFiniteLossError
            If a loss or a weight becomes infinite or not a number. The net holds the latest weights known to
            give a finite loss, and `history` the steps up to these.
        fastmlp.NonFiniteInputError
            If a training or validation sample holds a value that is infinite or not a number. The net holds
            the weights after the last step before.
        RuntimeError
            If the net is being fitted already, by another thread or by the fit that called this one from a
            callback.
        KeyboardInterrupt
            On Ctrl-C. As after an exception in a callback, the net holds the weights after some whole step,
            `history` all steps up to there, and a further fit goes on.

        Warns
        -----
        UserWarning
            If all units of a hidden layer are dead; if X has pixels (uint8) and validation data, or the X of
            an earlier fit, numbers that are above those of pixels, or the other way round; if X is uint8, but
            its numbers are as small as those of a table.

        References
        ----------
        class_weight="balanced": G. King, L. Zeng: Logistic Regression in Rare Events Data, Political
        Analysis 9, 2001. label_smoothing: C. Szegedy et al.: Rethinking the Inception Architecture for
        Computer Vision, CVPR 2016, section 7, with the uniform distribution over classes.

        Examples
        --------
        >>> import numpy as np
        >>> X, y = np.eye(4, dtype=np.float32), np.arange(4)
        >>> net = Net([4, 32, 4], seed=0)
        >>> history = net.fit(X, y, epochs=200)
        >>> history.loss[-1] < history.loss[0]
        True
        """
        settings = Settings(
            epochs,
            steps,
            batch_size,
            optimizer,
            schedule,
            validation_split,
            shuffle,
            label_smoothing,
            augment,
        )
        unfinished = self._run_to_resume(settings) if _validation.boolean(resume, "resume") else None
        job = checked_job(
            X,
            y,
            settings if unfinished is None else unfinished.settings,
            layer_sizes=self.layer_sizes,
            image_shape=self._image_shape,
            loss=self._loss,
            seed=self.seed,
            validation_data=validation_data,
            sample_weight=sample_weight,
            class_weight=class_weight,
            callbacks=callbacks,
            threads=threads,
            progress=progress,
        )
        data = job.data
        validation = None if data.validation is None else data.validation[0]
        for doubt in doubts_before_fit(data.samples, data.scale, validation, self._scale):
            warnings.warn(doubt, UserWarning, stacklevel=2)
        kind_of_data = len(data.samples), data.validation is not None, data.weights is not None
        checksums = data.checksums()
        if unfinished is not None:
            unfinished.check_data(*kind_of_data, checksums)
        run = unfinished or Run(settings, *kind_of_data, self.n_epochs, checksums=checksums)
        run.check_epochs()

        n_fits = self._n_fits
        if self._fitting.locked():
            raise RuntimeError(_validation.FIT_UNDER_WAY)
        with self._fitting:  # a lock that Ctrl-C cannot leave locked
            if self._n_fits != n_fits:  # another thread was quicker
                raise RuntimeError(_validation.FIT_UNDER_WAY)
            if resume and self._run is not run:  # it has just been finished
                raise ValueError(_validation.NOTHING_TO_RESUME)
            self._n_fits += 1
            self._fit_thread = threading.get_ident()
            alarms = self._train(job, run)
        for alarm in alarms:
            warnings.warn(alarm, UserWarning, stacklevel=2)
        return self.history

    def _run_to_resume(self, given: Settings) -> Run:
        if self._run is None:
            raise ValueError(_validation.NOTHING_TO_RESUME)
        self._run.settings.check_same(given)
        return self._run

    def _train(self, job: Job, run: Run) -> list[str]:
        """Do the steps, look at the net, and let checkpoints save all of it; return what to warn of."""
        fit = _fit_for(run)
        observers = Observers(self, fit, job.callbacks, run.records)
        try:
            self._do_steps(job, run, fit, observers)
            notes, alarms = _notes.look_at(
                network=self._network.network,
                layer_sizes=self.layer_sizes,
                activations=self.activations,
                samples=job.data.samples,
                n_samples_seen=fit.n_samples_seen,
                threads=job.threads.n_threads,
            )
            run.history.notes += notes
        finally:
            observers.end(checkpoints=True)
        return alarms

    def _do_steps(self, job: Job, run: Run, fit: Fit, observers: Observers) -> None:
        """Do the steps, record them, and tell the callbacks; checkpoints are not told of the end."""
        history = run.history
        training = Training(
            self._network,
            job.data.samples,
            job.data.targets,
            job.threads,
            history,
            run.steps_per_epoch,
            weights=job.data.weights,
            label_smoothing=run.settings.label_smoothing,
            augmentation=job.augmentation,
        )
        # When nobody needs to know of an epoch's end, one call of the core may do several epochs.
        unwatched = not (observers or job.data.validation or run.settings.needs_every_epoch)
        if unwatched:
            training.expect_no_looks(run.batch_size)
        with ExitStack() as at_end:  # what it is given happens however this ends, the last first
            at_end.callback(observers.end, checkpoints=False)
            if unwatched:
                at_end.callback(self._end_unwatched_epochs, job, run, training)
            at_end.callback(lambda: setattr(self, "_last_run", training.last_run))
            at_end.callback(training.collect)
            observers.begin()
            at_end.push(self._stop_observing)
            self.history, self._run, self._observers = history, run, observers
            history.notes.clear()  # they are of its end
            self._network.go_live(run.settings.optimizer)
            self._image_shape = job.data.image_shape or self._image_shape

            observers.on_epoch_end()  # of an epoch whose end an interruption kept from some
            while history.n_epochs < run.n_epochs and (run.n_open_steps or not fit.stopped):
                n_epochs = max(1, training.steps_per_call // run.steps_per_epoch) if unwatched else 1
                n_epochs = max(n_epochs, -(-run.n_open_steps // run.steps_per_epoch))
                fit.epoch = history.n_epochs + 1
                self.n_epochs = run.first_epoch + min(history.n_epochs + n_epochs, run.n_epochs)
                steps = run.steps_ahead(self.seed, n_epochs, training.team_size)
                if run.n_open_steps == 0:
                    run.epoch_seconds = 0.0
                rest = steps.part(len(steps) if fit.stopped else run.n_open_steps, len(steps))
                for call in training.do(rest, observers.steps_to_next):
                    self._scale = job.data.scale
                    run.epoch_seconds += call.seconds
                    fit._advance(call.n_samples, call.seconds, call.loss)
                    observers.on_call()
                    if fit.stopped:
                        break
                done = steps.part(0, run.n_open_steps)
                training.check_weights(float(done.learning_rates[-1]))
                self._end_epochs(job, run, done)
                observers.on_epoch_end()
            if history.n_epochs:  # the last of them may have ended in an interruption
                training.check_weights(history.learning_rate[-1])
            self._run = None  # there is nothing left to resume

    def _end_unwatched_epochs(self, job: Job, run: Run, training: Training) -> None:
        """Make the entries of whole epochs that an interrupted call of the core has done."""
        run.epoch_seconds += training.interrupted_seconds
        n_epochs, n_steps = divmod(run.n_open_steps, run.steps_per_epoch)
        if n_epochs:
            self._end_epochs(job, run, run.steps_ahead(self.seed, n_epochs))
        n_begun = run.first_epoch + run.history.n_epochs + (n_steps > 0)
        self.n_epochs = max(n_begun, min(self.n_epochs, run.first_epoch + 1))

    def _end_epochs(self, job: Job, run: Run, steps: Steps) -> None:
        """Make the history's entries of epochs whose steps have been done: of one, if it is validated."""
        validation_loss = validation_accuracy = None
        if job.data.validation is not None:
            samples, targets = job.data.validation
            validation_loss, predicted = loss_and_predicted(
                self._network, self._loss, samples, targets, None, job.threads.n_threads
            )
            is_right = self._loss.is_right(targets, predicted)
            validation_accuracy = None if is_right is None else float(np.mean(is_right))
        weights = job.data.weights
        seconds_per_step = run.epoch_seconds / run.n_open_steps
        run.history._add_epochs(
            first_step=run.history.n_epochs * run.steps_per_epoch,
            steps_per_epoch=run.steps_per_epoch,
            offsets=steps.offsets,
            seconds_per_step=seconds_per_step,
            learning_rates=steps.learning_rates,
            validation_loss=validation_loss,
            validation_accuracy=validation_accuracy,
            sample_weights=None if weights is None else weights[steps.order],
        )
        run.epoch_seconds = max(0.0, run.epoch_seconds - seconds_per_step * len(steps))

    def _stop_observing(self, kind: type[BaseException] | None, *_: object) -> None:
        """Keep what the callbacks need to go on, before they are told of the end."""
        run, observers, self._run, self._observers = self._run, self._observers, None, None
        if kind is not None and issubclass(kind, NonFiniteLossError):
            return  # to go on would lead there again
        if run is not None and observers is not None:
            observers.keep_in(run)  # if a callback's state fails, there is no going on exactly
            self._run = run

    # Prediction.

    def predict(self, X: ArrayLike, *, threads: int | None = None) -> NDArray[Any]:
        """Return the most probable class of each sample; or its labels, or numbers.

        Parameters
        ----------
        X : array_like
            Samples, as for `fit`; there may be none.
        threads : int, optional
            The most threads to use, from 1 to 1024; by default as for `fit`.

        Returns
        -------
        numpy.ndarray
            int64 (n_samples,), from 0 to n_classes - 1; the first of equally probable classes. With
            loss="sigmoid_cross_entropy" int64 (n_samples, n_outputs): 1 where the label is more probable than
            not, else 0. With "squared_error" float32 (n_samples, n_outputs): the outputs. For a single output
            these two are (n_samples,).

        Raises
        ------
        TypeError, ValueError
            If X is no array of real numbers, or its samples have another number of features.
        fastmlp.NonFiniteInputError
            If a sample holds a value that is infinite or not a number.
        fastmlp.NonFiniteOutputError
            If outputs for a sample overflow, and are infinite or not a number.

        Warns
        -----
        UserWarning
            As for `evaluate`.

        Examples
        --------
        >>> Net([2, 3], seed=0).predict([[0.0, 1.0], [1.0, 0.0]]).shape
        (2,)
        """
        return self._loss.predicted(self._outputs(X, threads, self._forward))

    def predict_proba(self, X: ArrayLike, *, threads: int | None = None) -> NDArray[np.float32]:
        """Return the probability of each class for each sample.

        Parameters
        ----------
        X : array_like
            Samples, as for `fit`; there may be none.
        threads : int, optional
            The most threads to use, from 1 to 1024; by default as for `fit`.

        Returns
        -------
        numpy.ndarray
            float32 (n_samples, n_classes), at least 0; the sum of each row is 1 to within rounding. With
            loss="sigmoid_cross_entropy" (n_samples, n_outputs), of each label by itself.

        Raises
        ------
        TypeError, ValueError
            If X is no array of real numbers, or its samples have another number of features. ValueError if
            the loss is "squared_error": numbers have no probabilities.
        fastmlp.NonFiniteInputError
            If a sample holds a value that is infinite or not a number.
        fastmlp.NonFiniteOutputError
            If outputs for a sample overflow, and are infinite or not a number.

        Warns
        -----
        UserWarning
            As for `evaluate`, but for up to 8 samples, which a small net predicts at once.

        Examples
        --------
        >>> Net([2, 3], seed=0).predict_proba([[0.0, 0.0]])
        array([[0.33333334, 0.33333334, 0.33333334]], dtype=float32)
        """
        if threads is None:
            at_once = self._loss.probabilities_of_few(self._network.network, X)
            if at_once is not None:
                return at_once
        return self._outputs(X, threads, self._loss.probabilities)

    def logits(self, X: ArrayLike, *, threads: int | None = None) -> NDArray[np.float32]:
        """Return the output of the last layer, before softmax or sigmoid.

        Parameters
        ----------
        X : array_like
            Samples, as for `fit`; there may be none.
        threads : int, optional
            The most threads to use, from 1 to 1024; by default as for `fit`.

        Returns
        -------
        numpy.ndarray
            float32 (n_samples, n_classes).

        Raises
        ------
        TypeError, ValueError
            If X is no array of real numbers, or its samples have another number of features.
        fastmlp.NonFiniteInputError
            If a sample holds a value that is infinite or not a number.
        fastmlp.NonFiniteOutputError
            If outputs for a sample overflow, and are infinite or not a number.

        Warns
        -----
        UserWarning
            As for `evaluate`.

        Examples
        --------
        >>> Net([2, 3], seed=0).logits([[0.0, 0.0]])
        array([[0., 0., 0.]], dtype=float32)
        """
        return self._outputs(X, threads, self._forward)

    def evaluate(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        class_weight: ClassWeight | None = None,
        threads: int | None = None,
    ) -> Evaluation:
        """Compare predictions with the truth.

        Parameters
        ----------
        X : array_like
            Samples, as for `fit`; at least one.
        y : array_like
            As for `fit`. A sample with class probabilities counts as one of its most probable class in the
            accuracy and the confusion matrix, and a label that is a probability as 1 if that is above 0.5.
        sample_weight, class_weight : optional
            As for `fit`: the loss is sum(weight * loss) / sum(weight), and so is the accuracy. With
            class_weight="balanced" it is the balanced accuracy, the mean of the classes' accuracies.
        threads : int, optional
            The most threads to use, from 1 to 1024; by default as for `fit`.

        Returns
        -------
        Evaluation
            Mean loss, accuracy, confusion matrix and number of samples.

        Raises
        ------
        TypeError, ValueError
            As for `fit`.
        fastmlp.NonFiniteInputError
            If a sample holds a value that is infinite or not a number.

        Warns
        -----
        UserWarning
            If the net was trained on pixels (uint8) and X holds numbers above those of pixels; if it was
            trained on other numbers and X is uint8, unless both are on one scale.

        Examples
        --------
        >>> print(Net([2, 2], seed=0).evaluate([[0.0, 0.0], [0.0, 0.0]], [0, 1]))
        loss 0.6931, accuracy 50.00 % (1 of 2 samples wrong)
        """
        array, targets = checked_samples_and_targets(
            X, y, self.layer_sizes, self._image_shape, self._loss, purpose="evaluation"
        )
        limit = thread_count(_validation.threads(threads, MAX_THREADS)).n_threads
        n_outputs = self.layer_sizes[-1]
        weights = combined_weights(sample_weight, class_weight, targets, n_outputs, self.loss)
        samples = Samples(array, self.layer_sizes[0])
        self._warn_of_scale(samples, stacklevel=3)
        loss, predicted = loss_and_predicted(self._network, self._loss, samples, targets, weights, limit)
        return self._loss.evaluation(loss, targets, weights, predicted, n_outputs)

    def _forward(self, network: _core.Network, X: CoreSamples, threads: int) -> NDArray[np.float32]:
        return network.forward(X, len(self.layer_sizes) - 1, threads)

    def _outputs(
        self,
        X: object,
        threads: int | None,
        compute: Callable[[_core.Network, CoreSamples, int], NDArray[np.float32]],
    ) -> NDArray[np.float32]:
        array = _validation.samples(X, self.layer_sizes[0], self._image_shape)
        limit = thread_count(_validation.threads(threads, MAX_THREADS)).n_threads
        samples = Samples(array, self.layer_sizes[0])
        self._warn_of_scale(samples, stacklevel=4)
        return outputs(self._network, samples, lambda network, rows: compute(network, rows, limit))

    def _warn_of_scale(self, samples: Samples, stacklevel: int) -> None:
        doubt = doubt_before_prediction(samples, self._scale)
        if doubt is not None:
            warnings.warn(doubt, UserWarning, stacklevel=stacklevel)

    # Weights and what else there is to know.

    @property
    def weights(self) -> list[NDArray[np.float32]]:
        """Weights of each layer: new read-only float32 arrays, (n_inputs, n_outputs)."""
        return _read_only(self._copy_parameters()[0])

    @property
    def biases(self) -> list[NDArray[np.float32]]:
        """Biases of each layer: new read-only float32 arrays, (n_outputs,).

        With batch normalisation (4, n_outputs): shift, scale, running mean and running variance.
        """
        return _read_only(self._copy_parameters()[1])

    def set_weights(self, weights: Sequence[ArrayLike], biases: Sequence[ArrayLike]) -> None:
        """Replace all weights and biases; the optimiser's moments stay, and an average begins anew.

        Parameters
        ----------
        weights : sequence of array_like
            One (n_inputs, n_outputs) for each layer of weights; finite real numbers.
        biases : sequence of array_like
            One (n_outputs,) for each of them; with batch normalisation (4, n_outputs), like `biases`.

        Raises
        ------
        TypeError
            If something is no array of real numbers.
        ValueError
            If a number of arrays, a shape or a value is wrong. The net is then as it was.
        RuntimeError
            If a signal handler calls this in the middle of something else that sets the weights: this method,
            or the beginning or the end of a fit.

        Examples
        --------
        >>> net = Net([2, 2], seed=0)
        >>> net.set_weights([[[1, 0], [0, 1]]], [[0, 0]])
        >>> net.logits([[3.0, 4.0]])
        array([[3., 4.]], dtype=float32)
        """
        self._network.assign(
            _validation.parameters(weights, biases, self.layer_sizes, self.batch_norm, self.precision)
        )
        self._scale = None

    def fold_batch_norm(self) -> Net:
        """Return a net without batch normalisation that predicts the same, up to rounding.

        Its weights and biases have taken up the scales and the running statistics: it predicts faster, and
        any program that knows dense layers can use it. It has not been trained: its history is empty.

        Returns
        -------
        Net
            With the same layers, precision, loss, dropout, seed, image shape and class names.

        References
        ----------
        S. Ioffe, C. Szegedy: Batch Normalization, ICML 2015, https://arxiv.org/abs/1502.03167, section 3.1.

        Examples
        --------
        >>> net = Net([2, 8, 2], batch_norm=True, seed=0)
        >>> history = net.fit(np.eye(2), [0, 1], epochs=3)
        >>> folded = net.fold_batch_norm()
        >>> folded.batch_norm, np.allclose(net.logits(np.eye(2)), folded.logits(np.eye(2)), atol=1e-5)
        ((False,), True)
        """
        weights, biases = self._copy_parameters()
        for layer, has_norm in enumerate(self.batch_norm):
            if has_norm:
                shift, scale, mean, variance = biases[layer].astype(np.float64)
                factor = scale / np.sqrt(variance + _BATCH_NORM_EPSILON)
                weights[layer] = (weights[layer] * factor).astype(np.float32)
                biases[layer] = (shift - mean * factor).astype(np.float32)
        net = type(self)(
            self.layer_sizes,
            activation=self.activations,
            initializer=self.initializer,
            precision=self.precision,
            loss=self.loss,
            dropout=self.dropout,
            seed=self.seed,
        )
        net.set_weights(weights, biases)
        net.image_shape, net.class_names, net._scale = self.image_shape, self.class_names, self._scale
        return net

    @property
    def n_parameters(self) -> int:
        """Number of weights and biases."""
        return self._network.n_parameters

    @property
    def can_resume(self) -> bool:
        """Whether a fit was interrupted, or is under way: ``fit(X, y, resume=True)`` finishes it."""
        return self._run is not None

    @property
    def instruction_set(self) -> str:
        """Name of the instruction set whose kernels this net runs on, such as "avx2"."""
        return self._network.network.instruction_set

    @property
    def image_shape(self) -> tuple[int, ...] | None:
        """Dimensions of one sample, such as (28, 28); known from the X of the last fit, or set, or None."""
        return self._image_shape

    @image_shape.setter
    def image_shape(self, shape: Sequence[int] | None) -> None:
        self._image_shape = _validation.image_shape(shape, self.layer_sizes[0])

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Name of each class; None unless it has been set. A saved model holds them."""
        return self._class_names

    @class_names.setter
    def class_names(self, names: Sequence[str] | None) -> None:
        self._class_names = _validation.class_names(names, self.layer_sizes[-1])

    def __repr__(self) -> str:
        hidden = [
            f"{n_units} {'batch-normalized ' if has_norm else ''}{activation}"
            for n_units, activation, has_norm in zip(
                self.layer_sizes[1:-1], self.activations, self.batch_norm, strict=True
            )
        ]
        layers = " -> ".join([str(self.layer_sizes[0]), *hidden, str(self.layer_sizes[-1])])
        loss = "" if self.loss == _validation.LOSSES[0] else f"{self.loss}, "
        return (
            f"<Net {layers}: {self.n_parameters:,} parameters, {self.precision}, {loss}seed {self.seed}, "
            f"{self.n_epochs} epochs>"
        )

    def _copy_parameters(self) -> Parameters:
        return self._network.parameters()

    def _use_beside_live(self, weights: list[NDArray[np.float32]], biases: list[NDArray[np.float32]]) -> None:
        """Use other weights than the live ones, from which a further fit will go on."""
        self._network.use_beside_live((weights, biases))

    # Files.

    def save(self, path: str | os.PathLike[str], *, training_state: bool = False) -> None:
        """Write the net to a file: weights, settings and history, and if wanted what training needs to go on.

        The file is safetensors, with tensors named ``layers.0.weight`` and so on, (n_inputs, n_outputs): the
        transposes of PyTorch's. It appears whole or not at all: it is written to a temporary name in the same
        folder, flushed to disk and renamed.

        Parameters
        ----------
        path : str or os.PathLike
            The file's name, commonly ending in ".safetensors".
        training_state : bool, default False
            Whether to save the optimiser's moments, too, so that a further fit of the loaded net goes on as
            this one's would; and, of a fit that is under way or was interrupted, all that ``resume=True``
            needs. The file is then three to seven times as large.

        Raises
        ------
        OSError
            If the file cannot be written; the one that was there before is then unharmed.
        ValueError
            If a weight is not a finite number.
        TypeError
            If the training state is asked for and holds what no file can: an optimizer, schedule or
            augmentation of a class that is not fastmlp's.
        RuntimeError
            If the training state is asked for while the net is being fitted, except by the callbacks of that
            fit.

        Examples
        --------
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "net.safetensors"
        >>> Net([2, 3], seed=7).save(path)
        >>> Net.load(path)
        <Net 2 -> 3: 9 parameters, float32, seed 7, 0 epochs>
        """
        with_training = _validation.boolean(training_state, "training_state")
        model_file.save(path, self._stored(with_training=with_training))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Net:
        """Read a net from a file that `save` wrote.

        Parameters
        ----------
        path : str or os.PathLike
            The file's name. The file is not trusted.

        Returns
        -------
        Net
            It predicts the same as the one that was saved, and can be trained on, with moments of zero if the
            file has none.

        Raises
        ------
        fastmlp.ModelFileError
            If the file is not exactly one valid model; the message names it and says what is wrong.
        OSError
            If the file cannot be read.
        """
        return cls._from_stored(model_file.load(path), os.fspath(path))

    def _stored(self, *, with_training: bool = False) -> model_file.StoredModel:
        is_callback = self._is_telling and self._fit_thread == threading.get_ident()
        if with_training and self._fitting.locked() and not is_callback:
            raise RuntimeError(_validation.STATE_IN_MID_FIT)
        if with_training and self._run is not None and self._observers is not None:
            self._observers.keep_in(self._run)
        weights, biases = self._copy_parameters()
        return model_file.StoredModel(
            self.layer_sizes,
            self.activations,
            self.initializer,
            self.precision,
            self.loss,
            self.batch_norm,
            self.dropout,
            self.seed,
            self.n_epochs,
            self._image_shape,
            self._scale,
            self._class_names,
            weights,
            biases,
            self.history,
            self._network.training_state() if with_training else None,
            self._run if with_training else None,
        )

    @classmethod
    def _from_stored(cls, stored: model_file.StoredModel, name: str) -> Net:
        net = cls.__new__(cls)
        settings = stored.layer_sizes, stored.activations, stored.initializer, stored.precision
        net._set_up(*settings, loss_named(stored.loss), stored.batch_norm, stored.dropout, stored.seed)
        parameters = stored.weights, stored.biases
        net._network.assign(parameters)
        net.history = stored.history
        net.n_epochs = stored.n_epochs
        net._image_shape = stored.image_shape
        net._scale = stored.scale
        net._class_names = stored.class_names
        net._run = stored.run
        if stored.training is not None:
            try:
                net._network.go_on_from(stored.training, parameters)
            except ValueError as error:
                raise model_file.refusal(name, error) from error
        return net

    def _forget_other_threads(self) -> None:
        """In a child of fork, end what another thread was doing with this net."""
        self._network.forget_other_threads()
        if self._fitting.locked() and self._fit_thread != threading.get_ident():
            self._fitting = threading.Lock()
            # The results of its latest steps were that thread's to record, so this run can't be finished.
            self._run = self._observers = None

    @classmethod
    def _from_bytes(cls, data: bytes) -> Net:
        return cls._from_stored(model_file.from_bytes(data), model_file.PICKLED)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy through the file format."""
        return self._from_bytes, (model_file.to_bytes(self._stored()),)


_nets: weakref.WeakSet[Net] = weakref.WeakSet()


def _forget_other_threads() -> None:
    for net in list(_nets):
        net._forget_other_threads()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_other_threads)


def _fit_for(run: Run) -> Fit:
    """Return what callbacks may know at the beginning."""
    history = run.history
    return Fit(
        history,
        run.n_epochs,
        run.n_steps,
        run.n_samples,
        run.has_validation,
        epoch=history.n_epochs,
        n_samples_seen=history.n_epochs * run.n_samples + run.n_open_samples,
        seconds=math.fsum(history.seconds) + run.epoch_seconds * (run.n_open_steps > 0),
        stopped=run.stopped,
    )


def _read_only(arrays: list[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
    for array in arrays:
        array.flags.writeable = False
    return arrays
