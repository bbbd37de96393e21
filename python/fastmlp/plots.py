"""Pictures of digits, distortions, predictions, learning curves, schedules, mistakes and weights.

Every function draws into the Axes that it is given, or into a new Figure, and returns the Figure: save it
with ``.savefig("name.png")``, or let a notebook show it as the last value of a cell. New Figures are not
known to pyplot, so they need no display, leave no trace in its state and are freed like any other object. To
combine pictures, pass ``ax=``.

Colours are those of Okabe and Ito [1]_ and colour maps of steadily changing lightness, which colour-blind
people can tell apart, as can printers without colour.

References
----------
.. [1] M. Okabe and K. Ito, "Color Universal Design", 2008, https://jfly.uni-koeln.de/color/.
"""

from __future__ import annotations

import functools
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastmlp import _validation
from fastmlp._schedule import Schedule, Span, checked_schedule
from fastmlp.augment import Augmentation
from fastmlp.history import History
from fastmlp.metrics import Evaluation, classes_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

    from fastmlp.net import Net

MAX_IMAGES = 400
"""The most images on one sheet."""

MAX_PREDICTIONS = 24
"""The most images in one picture of predictions."""

_BLUE, _VERMILLION, _GREY, _LIGHT_GREY = "#0072B2", "#D55E00", "#8C8C8C", "#D9DEE2"
_DOTS_PER_INCH = 150
_MAX_BARS = 26
_POINTS_PER_EPOCH = 200  # of a line
_MAX_NAMED_CLASSES = 60
_MAX_CLASSES_WITH_COUNTS = 30
_GAP, _LINE_HEIGHT, _CAPTION_SIZE = 0.08, 0.145, 8  # of sheets: inches, inches, points


def digit(
    image: ArrayLike,
    label: int | None = None,
    *,
    class_names: Sequence[str] | None = None,
    inverted: bool = False,
    ax: Axes | None = None,
) -> Figure:
    """Draw one image, with its pixels countable.

    Parameters
    ----------
    image : array_like, shape (height, width) or (n_features,)
        A row of features is taken for a square image. uint8 spans 0 to 255, floats 0 to 1, other values from
        their smallest to their largest.
    label : int, optional
        The class, for the title.
    class_names : sequence of str, optional
        Names of the classes; by default their numbers.
    inverted : bool, default False
        Draw large values dark, like ink on paper.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default in a new Figure.

    Returns
    -------
    matplotlib.figure.Figure
        The Figure that holds the picture.

    Raises
    ------
    TypeError, ValueError
        If `image` is not a single grey image, or `label` has no name.

    Examples
    --------
    >>> figure = digit(np.eye(28), 1)
    """
    picture = _images([image], None)[0]
    ax = _axes(3.4, 3.4) if ax is None else ax
    ax.imshow(picture, interpolation="nearest", **_greys(picture, inverted))
    ax.set_xlabel("column (pixels)")
    ax.set_ylabel("row (pixels)")
    for axis, size in ((ax.xaxis, picture.shape[1]), (ax.yaxis, picture.shape[0])):
        axis.set_ticks(range(0, size, max(1, math.ceil(size / 28) * 7)))
    if label is not None:
        ax.set_title(f"label: {_name(label, class_names)}")
    return _figure_of(ax)


def digits(
    images: ArrayLike,
    labels: ArrayLike | None = None,
    *,
    class_names: Sequence[str] | None = None,
    inverted: bool = False,
    n_columns: int | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw a sheet of images, each under its label.

    Parameters
    ----------
    images : array_like, shape (n_images, height, width) or (n_images, n_features)
        From 1 to 400 images; values as for `digit`.
    labels : array_like of int, shape (n_images,), optional
        Their classes.
    class_names : sequence of str, optional
        Names of the classes; by default their numbers.
    inverted : bool, default False
        Draw large values dark, like ink on paper.
    n_columns : int, optional
        Images in a row; by default such that the sheet is a little wider than high.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default in a new Figure.

    Returns
    -------
    matplotlib.figure.Figure
        The Figure that holds the picture.

    Raises
    ------
    TypeError, ValueError
        If `images` are no grey images, there are none or too many, or the labels do not fit them.

    Examples
    --------
    >>> figure = digits(np.zeros((12, 28, 28), np.uint8), np.arange(12) % 10)
    """
    pictures = _images(images, None)
    if not 1 <= len(pictures) <= MAX_IMAGES:
        raise ValueError(
            f"A sheet holds 1 to {MAX_IMAGES} images, not {len(pictures):,}; pass images[:100], say."
        )
    captions = []
    if labels is not None:
        classes = np.asarray(labels)
        if classes.shape != (len(pictures),):
            raise ValueError(f"labels has the shape {classes.shape}, but there are {len(pictures)} images.")
        captions = [[_name(label, class_names)] for label in classes.tolist()]
    ax, _ = _sheet(pictures, captions, n_columns=n_columns, colors=_greys(pictures, inverted), ax=ax)
    return _figure_of(ax)


def augmentations(
    augmentation: Augmentation,
    images: ArrayLike,
    *,
    n_versions: int = 9,
    seed: int = 0,
    inverted: bool = False,
    ax: Axes | None = None,
) -> Figure:
    """Draw images, each on the left of some of its distorted versions.

    Look before you train: all versions should still be what their labels say.

    Parameters
    ----------
    augmentation : Augmentation
        How to distort them.
    images : array_like of uint8, shape (n_images, height, width) or (n_images, n_features)
        From 1 to 40 images.
    n_versions : int, default 9
        Distorted versions of each image, from 1 to 39, but at most 400 images in all: those of the first
        epochs.
    seed : int, default 0
        Seed of the distortions, in [0, 2**64).
    inverted : bool, default False
        Draw large values dark, like ink on paper.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default in a new Figure.

    Returns
    -------
    matplotlib.figure.Figure
        The Figure that holds the picture.

    Raises
    ------
    TypeError, ValueError
        If `images` are no grey images of uint8, or there are none or too many.

    Examples
    --------
    >>> from fastmlp import Augmentation
    >>> figure = augmentations(Augmentation(rotation=10), np.eye(28, dtype=np.uint8)[np.newaxis] * 255)
    """
    _validation.instance(augmentation, Augmentation, "augmentation", "Augmentation(shift=2)")
    n = _validation.whole_number(n_versions, "n_versions", maximum=MAX_IMAGES // 10 - 1)
    pictures = _images(images, None)
    if not 1 <= len(pictures) <= MAX_IMAGES // (n + 1):
        raise ValueError(
            f"With {n} version(s) of each, there is room for 1 to {MAX_IMAGES // (n + 1)} images, not "
            f"{len(pictures):,}; pass images[:10], say."
        )
    versions = [augmentation(pictures, seed=seed, epoch=epoch) for epoch in range(n)]
    sheet = np.stack([pictures, *versions], axis=1).reshape(-1, *pictures.shape[1:])
    ax, _ = _sheet(sheet, [], n_columns=n + 1, colors=_greys(sheet, inverted), ax=ax)
    return _figure_of(ax)


def prediction(
    net: Net,
    image: ArrayLike,
    label: int | None = None,
    *,
    class_names: Sequence[str] | None = None,
    inverted: bool = False,
    ax: Axes | None = None,
) -> Figure:
    """Draw an image beside a bar graph of the probabilities that a net gives to the classes.

    Parameters
    ----------
    net : Net
        The net to ask.
    image : array_like, shape (height, width) or (n_features,)
        One sample of what the net takes.
    label : int, optional
        The true class. If the net is wrong, its prediction is drawn in another colour and the true class is
        marked.
    class_names : sequence of str, optional
        Names of the classes; by default the net's own, or else their numbers.
    inverted : bool, default False
        Draw large values dark, like ink on paper.
    ax : matplotlib.axes.Axes, optional
        Where to draw; its place is divided between image and graph. By default in a new Figure.

    Returns
    -------
    matplotlib.figure.Figure
        The Figure that holds the picture.

    Raises
    ------
    TypeError, ValueError
        If `image` is not one sample that the net takes, or `label` is none of its classes.

    Notes
    -----
    Of more than 26 classes only the most probable ones (and the true one) have a bar.

    Examples
    --------
    >>> from fastmlp import Net
    >>> figure = prediction(Net([784, 10], seed=0), np.zeros((28, 28), np.uint8), 3)
    """
    sample = np.asarray(image)[np.newaxis]
    if label is not None and np.ndim(label) > 0:
        raise ValueError("label must be one class, such as y[0]; plots.predictions takes several images.")
    labels = None if label is None else [label]
    if ax is None:
        return predictions(net, sample, labels, class_names=class_names, inverted=inverted)
    ax.set_axis_off()
    panels = [ax.inset_axes((0, 0, 0.38, 1)), ax.inset_axes((0.6, 0, 0.4, 1))]
    _draw_predictions([panels], net, sample, labels, class_names=class_names, inverted=inverted)
    return _figure_of(ax)


def predictions(
    net: Net,
    images: ArrayLike,
    labels: ArrayLike | None = None,
    *,
    class_names: Sequence[str] | None = None,
    inverted: bool = False,
    n_columns: int | None = None,
) -> Figure:
    """Draw several images, each beside a bar graph of the probabilities that a net gives to the classes.

    Parameters
    ----------
    net : Net
        The net to ask.
    images : array_like, shape (n_images, height, width) or (n_images, n_features)
        From 1 to 24 samples of what the net takes.
    labels : array_like of int, shape (n_images,), optional
        Their true classes.
    class_names, inverted
        As for `prediction`.
    n_columns : int, optional
        Images in a row; by default 1 to 3.

    Returns
    -------
    matplotlib.figure.Figure
        A new Figure.

    Raises
    ------
    TypeError, ValueError
        If the images are not samples that the net takes, there are none or too many, or a label is none of
        its classes.

    Examples
    --------
    >>> from fastmlp import Net
    >>> figure = predictions(Net([784, 10], seed=0), np.zeros((4, 28, 28), np.uint8), [1, 2, 3, 4])
    """
    samples = np.asarray(images)
    n = len(samples) if samples.ndim else 0
    if not 1 <= n <= MAX_PREDICTIONS:
        raise ValueError(f"There is room for 1 to {MAX_PREDICTIONS} images, not {n:,}.")
    columns = n_columns or min(n, 2 if n <= 4 else 3)
    rows = math.ceil(n / columns)
    n_bars = min(net.layer_sizes[-1], _MAX_BARS)
    room_for_names = 0.08 * max(0, *(len(name) - 11 for name in _names_for(net, class_names)))
    figure = _figure((4.8 + room_for_names) * columns, rows * max(2.4, 0.6 + 0.19 * n_bars))
    grid = figure.subplots(rows, 2 * columns, width_ratios=[1, 1.15] * columns, squeeze=False)
    pairs = [[row[2 * i], row[2 * i + 1]] for row in grid for i in range(columns)]
    for unused in pairs[n:]:
        for ax in unused:
            ax.set_axis_off()
    _draw_predictions(pairs[:n], net, samples, labels, class_names=class_names, inverted=inverted)
    return figure


def learning_curves(history: History, *, ax: Axes | None = None) -> Figure:
    """Draw how the loss fell and the accuracy rose.

    Parameters
    ----------
    history : History
        What `Net.fit` returned; also that of a fit that was interrupted.
    ax : matplotlib.axes.Axes, optional
        Where to draw; its place is divided between loss and accuracy. By default in a new Figure.

    Returns
    -------
    matplotlib.figure.Figure
        The Figure that holds the picture: losses, in nats but for squared_error, and accuracies in percent,
        if there are any. That of training is an epoch's mean, measured while it went on. Of a fit that was
        cut off in its first epoch, the losses of its steps.

    Raises
    ------
    TypeError, ValueError
        If `history` is none; if no step was done.

    Examples
    --------
    >>> from fastmlp import Net
    >>> X, y = np.eye(4, dtype=np.float32), np.arange(4)
    >>> figure = learning_curves(Net([4, 8, 4], seed=0).fit(X, y, epochs=3))
    """
    _validation.instance(history, History, "history", "net.history")
    if len(history.step_loss) == 0:
        raise ValueError("There is nothing to draw: this history has no steps.")
    has_accuracy = bool(history.validation_accuracy or np.isfinite(history.train_accuracy).any())
    if ax is None and has_accuracy:
        panels = list(_figure(9, 3.8).subplots(1, 2))
    elif ax is None:
        panels = [_axes(5.6, 3.8)]
    elif has_accuracy:
        ax.set_axis_off()
        panels = [ax.inset_axes((0, 0, 0.38, 1)), ax.inset_axes((0.62, 0, 0.38, 1))]
    else:
        panels = [ax]
    _draw_losses(panels[0], history)
    if has_accuracy:
        _draw_accuracy(panels[1], history)
    for panel in panels:
        _finish_curves(panel, "epochs" if history.n_steps else "steps")
    return _figure_of(panels[0])


def schedule(
    schedule: Schedule,
    *,
    epochs: int = 10,
    steps_per_epoch: int = 100,
    learning_rate: float | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw how a schedule will change the learning rate, before any training.

    What `ReduceOnPlateau` will do depends on the training; it is drawn for one in which nothing gets better
    after the first epoch, so that the rate falls as early as it can.

    Parameters
    ----------
    schedule : Schedule
        One of `fastmlp.schedules`.
    epochs : int, default 10
        Epochs of the fit that is planned, at least 1.
    steps_per_epoch : int, default 100
        Steps of each of them: the number of samples divided by the batch size, rounded up; at least 1.
    learning_rate : float, optional
        The optimiser's; by default what it is multiplied by is drawn.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default in a new Figure.

    Returns
    -------
    matplotlib.figure.Figure
        The Figure that holds the picture.

    Raises
    ------
    TypeError, ValueError
        If an argument is of a wrong type or out of range.

    Examples
    --------
    >>> from fastmlp.schedules import Cosine, Warmup
    >>> figure = schedule(Warmup(50, then=Cosine()), epochs=5, learning_rate=0.004)
    """
    plan = checked_schedule(schedule)
    n_epochs = _validation.whole_number(epochs, "epochs", maximum=10_000)
    n_steps = _validation.whole_number(steps_per_epoch, "steps_per_epoch")
    rate = 1.0 if learning_rate is None else _validation.positive(learning_rate, "learning_rate")
    places, rates = [], []
    for epoch in range(n_epochs):
        same = [0.0] * epoch
        none_better = History(loss=same, validation_loss=same, validation_accuracy=same)
        steps = np.unique(np.linspace(0, n_steps - 1, min(n_steps, _POINTS_PER_EPOCH)).astype(np.int64))
        steps += epoch * n_steps
        places.append(steps / n_steps)
        rates.append(rate * plan.factors(steps, Span(n_epochs * n_steps, n_steps, none_better)))
    ax = _axes(5.6, 3.2) if ax is None else ax
    ax.plot(np.concatenate(places), np.concatenate(rates), color=_BLUE, linewidth=1.6)
    ax.set_ylim(bottom=0)
    ax.set_ylabel("factor of the learning rate" if learning_rate is None else "learning rate")
    _finish_curves(ax)
    return _figure_of(ax)


def confusion_matrix(
    evaluation: Evaluation | ArrayLike,
    *,
    class_names: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw which classes are taken for which others.

    Colour shows the mistakes alone, in percent of the true class; the right predictions, far more numerous as
    a rule, stand in grey on the diagonal.

    Parameters
    ----------
    evaluation : Evaluation or array_like of int, shape (n_classes, n_classes)
        What `Net.evaluate` returned; or how many samples of each class (row) were taken for each class
        (column).
    class_names : sequence of str, optional
        Names of the classes; by default their numbers.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default in a new Figure.

    Returns
    -------
    matplotlib.figure.Figure
        The Figure that holds the picture.

    Raises
    ------
    ValueError
        If it is not a square matrix of counts, or the names are not as many.

    Examples
    --------
    >>> figure = confusion_matrix([[50, 2], [1, 47]], class_names=["cat", "dog"])
    """
    from matplotlib.colors import ListedColormap, PowerNorm

    counts = _counts(evaluation.confusion_matrix if isinstance(evaluation, Evaluation) else evaluation)
    n_classes = len(counts)
    names = _names(class_names, n_classes)
    side = min(max(3.6, 0.48 * n_classes if n_classes <= 12 else 0.36 * n_classes), 14)
    if ax is None:
        ax = _axes(side + 2.2, side + 0.9)

    is_right = np.eye(n_classes, dtype=bool)
    percent = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    percent[is_right] = 0
    scale = PowerNorm(0.5, vmin=0, vmax=max(float(percent.max()), 0.1))  # rare mistakes remain visible
    hidden = np.ma.masked_equal(percent, 0)
    colours = ax.imshow(hidden, cmap="Oranges", norm=scale, aspect="equal", interpolation="nearest")
    diagonal = np.ma.masked_array(np.zeros_like(percent), ~is_right)
    ax.imshow(diagonal, cmap=ListedColormap([_LIGHT_GREY]), interpolation="nearest")
    _label_classes(ax, names)
    if n_classes <= _MAX_CLASSES_WITH_COUNTS:
        for (true, predicted), count in np.ndenumerate(counts):
            colour = "white" if scale(percent[true, predicted]) > 0.65 else "black"
            size = _count_size(ax, n_classes, len(str(count)))
            if count:
                ax.text(predicted, true, f"{count}", ha="center", va="center", fontsize=size, color=colour)
        _draw_cell_borders(ax, n_classes)
    _add_colour_bar(ax, colours, "mistakes (% of the true class)")
    n_samples, n_wrong = int(counts.sum()), int(counts.sum() - np.trace(counts))
    ax.set_title(f"{n_wrong:,} of {n_samples:,} wrong ({_percent(n_wrong / max(n_samples, 1))})")
    return _figure_of(ax)


def mistakes(
    net: Net,
    images: ArrayLike,
    labels: ArrayLike,
    *,
    n: int = 25,
    class_names: Sequence[str] | None = None,
    inverted: bool = False,
    ax: Axes | None = None,
) -> Figure:
    """Draw the images that a net gets wrong, those first of which it was most sure.

    Parameters
    ----------
    net : Net
        The net to ask.
    images : array_like, shape (n_images, height, width) or (n_images, n_features)
        Samples of what the net takes.
    labels : array_like, shape (n_images,)
        Their true classes (or probabilities of the classes, as for `Net.fit`).
    n : int, default 25
        The most images to draw, from 1 to 400.
    class_names : sequence of str, optional
        Names of the classes; by default the net's own, or else their numbers.
    inverted : bool, default False
        Draw large values dark, like ink on paper.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default in a new Figure.

    Returns
    -------
    matplotlib.figure.Figure
        The Figure that holds the picture: above each image its true class, and the predicted one with its
        probability.

    Raises
    ------
    TypeError, ValueError
        If the images or labels are not such as the net takes.

    Examples
    --------
    >>> from fastmlp import Net
    >>> figure = mistakes(Net([784, 10], seed=0), np.zeros((4, 28, 28), np.uint8), [1, 2, 3, 4])
    """
    n = _validation.whole_number(n, "n", maximum=MAX_IMAGES)
    names = _names_for(net, class_names)
    probabilities = net.predict_proba(images)
    true = classes_of(
        _validation.targets(labels, len(probabilities), net.layer_sizes[-1], "labels", "images")
    )
    predicted = probabilities.argmax(axis=1)
    confidence = probabilities.max(axis=1)
    wrong = np.flatnonzero(predicted != true)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:n]
    if len(worst) == 0:
        return _no_mistakes(len(true), ax)
    captions = [
        [f"true: {names[true[i]]}", f"{names[predicted[i]]} ({_percent(confidence[i])})"] for i in worst
    ]
    pictures = _images(np.asarray(images)[worst], net.image_shape)
    ax, _ = _sheet(
        pictures,
        captions,
        title=_counted(len(worst), len(wrong)),
        explanation=f"among {_n_images(len(true))}; in colour: what the net took it for, and its probability",
        colors=_greys(pictures, inverted),
        ax=ax,
    )
    return _figure_of(ax)


def weights(
    net: Net, *, n: int = 100, image_shape: tuple[int, int] | None = None, ax: Axes | None = None
) -> Figure:
    """Draw the weights of the first layer: for each unit, an image of what it looks for.

    Parameters
    ----------
    net : Net
        The net to look into.
    n : int, default 100
        The most units to draw, from 1 to 400; the first ones are.
    image_shape : tuple of int, optional
        (height, width) of the images; by default what the net knows from its training, or else a square.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default in a new Figure.

    Returns
    -------
    matplotlib.figure.Figure
        The Figure that holds the picture. All units share one scale; where an input does not matter, it is
        white.

    Raises
    ------
    TypeError, ValueError
        If the net's inputs cannot be arranged as `image_shape`.

    Examples
    --------
    >>> from fastmlp import Net
    >>> figure = weights(Net([784, 16, 10], seed=0))
    """
    n = _validation.whole_number(n, "n", maximum=MAX_IMAGES)
    units = net.weights[0].T[:n]
    pictures = _images(units, image_shape or net.image_shape)
    limit = max(float(np.percentile(np.abs(pictures), 99.8)), float(np.finfo(np.float32).tiny))
    n_units = net.layer_sizes[1]
    which = f"all {n_units}" if len(units) == n_units else f"the first {len(units)} of {n_units}"
    ax, shown = _sheet(
        pictures,
        title=f"Weights of {which} units of the first layer",
        room_right=0.8,
        colors={"cmap": "PuOr", "vmin": -limit, "vmax": limit},
        ax=ax,
    )
    _add_colour_bar(ax, shown, "weight", extend="both")
    return _figure_of(ax)


# Sheets of images.


@dataclass(frozen=True)
class _Grid:
    """Where the images of a sheet lie; lengths in inches, from the sheet's upper left corner."""

    n: int
    columns: int
    image_width: float
    image_height: float
    caption_height: float

    @classmethod
    def of(cls, pictures: NDArray[Any], captions: Sequence[Sequence[str]], n_columns: int | None) -> _Grid:
        n, height, width = pictures.shape
        longest = max((len(line) for caption in captions for line in caption), default=0)
        n_lines = max((len(caption) for caption in captions), default=0)
        smallest = 1.4 if n <= 6 else 0.9 if n <= 30 else 0.66
        image_width = min(max(smallest, 0.075 * longest - 0.06), 2.5)
        columns = min(n, n_columns or _columns(n))
        return cls(n, columns, image_width, image_width * height / width, _LINE_HEIGHT * n_lines)

    @property
    def width(self) -> float:
        return self.columns * (self.image_width + _GAP)

    @property
    def height(self) -> float:
        return math.ceil(self.n / self.columns) * (self.image_height + self.caption_height + _GAP)

    def extent(self, i: int) -> tuple[float, float, float, float]:
        """Left, right, bottom and top of an image."""
        left = (i % self.columns) * (self.image_width + _GAP) + _GAP / 2
        bottom = (i // self.columns + 1) * (self.image_height + self.caption_height + _GAP) - _GAP / 2
        return left, left + self.image_width, bottom, bottom - self.image_height


def _sheet(
    pictures: NDArray[Any],
    captions: Sequence[Sequence[str]] = (),
    *,
    n_columns: int | None = None,
    title: str = "",
    explanation: str = "",
    room_right: float = 0,
    colors: Mapping[str, Any],
    ax: Axes | None,
) -> tuple[Axes, AxesImage]:
    """Draw images in rows and columns of one Axes, each below the lines of its caption.

    room_right: inches to leave in a new Figure. colors: cmap, vmin and vmax of all images. The last of two
    lines of a caption is in colour.
    """
    grid = _Grid.of(pictures, captions, n_columns)
    headings = [(text, size) for text, size in ((title, 11), (explanation, 9)) if text]
    header_height = sum(size for _, size in headings) * 1.6 / 72
    width = max([grid.width, *(0.58 * size * len(text) / 72 for text, size in headings)])
    if ax is None:
        ax = _axes(width + room_right + 0.1, header_height + grid.height + 0.1)
        scale = 1.0
    else:
        place = ax.get_window_extent()
        scale = min(place.width / width, place.height / (header_height + grid.height)) / ax.figure.dpi
        scale = min(1, scale)
    for i, picture in enumerate(pictures):
        extent = grid.extent(i)
        shown = ax.imshow(picture, extent=extent, interpolation="nearest", **colors)
        x, y = (extent[0] + extent[1]) / 2, extent[3] - 0.02
        for line, text in enumerate(reversed(captions[i] if captions else ())):
            colour = _VERMILLION if line == 0 and len(captions[i]) > 1 else None
            y_line = y - line * _LINE_HEIGHT
            ax.text(x, y_line, text, ha="center", va="bottom", fontsize=_CAPTION_SIZE * scale, color=colour)
    y = -header_height
    for text, size in headings:
        ax.text(grid.width / 2, y, text, ha="center", va="top", fontsize=size * scale)
        y += 1.6 * size / 72
    margin = (width - grid.width) / 2
    ax.set(xlim=(-margin, grid.width + margin), ylim=(grid.height, -header_height), aspect="equal")
    ax.set_axis_off()
    return ax, shown


def _columns(n: int) -> int:
    """How many columns make a sheet of n images somewhat wider than high, with few places left empty."""
    candidates = range(max(1, math.ceil(0.9 * math.sqrt(n))), math.ceil(1.7 * math.sqrt(n)) + 1)
    return min(
        candidates,
        key=lambda columns: (-n % columns / n > 0.1, -n % columns, abs(columns - math.sqrt(1.4 * n))),
    )


def _no_mistakes(n: int, ax: Axes | None) -> Figure:
    ax = _axes(5, 1.2) if ax is None else ax
    ax.set_axis_off()
    ax.text(0.5, 0.5, f"No mistakes among {_n_images(n)}", ha="center", va="center", transform=ax.transAxes)
    return _figure_of(ax)


def _n_images(n: int) -> str:
    return f"{n:,} image{'' if n == 1 else 's'}"


def _counted(n_shown: int, n_mistakes: int) -> str:
    if n_shown < n_mistakes:
        return f"{n_shown} of {n_mistakes:,} mistakes, the most confident first"
    return f"All {n_mistakes:,} mistakes, the most confident first" if n_mistakes > 1 else "The only mistake"


def _greys(pictures: NDArray[Any], inverted: bool) -> dict[str, Any]:
    """How to draw grey images: uint8 spans 0 to 255, other values 0 to 1 or what they hold."""
    low, high = (0.0, 255.0) if pictures.dtype == np.uint8 else (float(pictures.min()), float(pictures.max()))
    if low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    return {"cmap": "gray_r" if inverted else "gray", "vmin": low, "vmax": high}


# Bar graphs.


def _draw_predictions(
    panels: Sequence[Sequence[Axes]],
    net: Net,
    samples: NDArray[Any],
    labels: ArrayLike | None,
    *,
    class_names: Sequence[str] | None,
    inverted: bool,
) -> None:
    names = _names_for(net, class_names)
    probabilities = net.predict_proba(samples)
    true: list[int | None] = [None] * len(samples)
    if labels is not None:
        targets = _validation.targets(labels, len(samples), len(names), "labels", "images")
        true = classes_of(targets).tolist()
    pictures = _images(samples, net.image_shape)
    for (left, right), picture, row, label in zip(panels, pictures, probabilities, true, strict=True):
        left.imshow(picture, interpolation="nearest", **_greys(picture, inverted))
        left.set(xticks=[], yticks=[])
        best = int(row.argmax())
        title, colour = _title(names[best], f"({_percent(row[best])})"), _BLUE
        if label is not None and label != best:
            title, colour = f"{title}\n{_title('but it is:', names[label])}", _VERMILLION
        left.set_title(title, fontsize=10, color=colour)
        _draw_bars(right, row, names, label)


def _title(first: str, second: str) -> str:
    """Put two parts of a title above an image in one line if there is room."""
    return f"{first}  {second}" if len(first) + len(second) <= 24 else f"{first}\n{second}"


def _draw_bars(ax: Axes, probabilities: NDArray[np.float32], names: Sequence[str], label: int | None) -> None:
    best = int(probabilities.argmax())
    classes = list(range(len(names)))
    if len(classes) > _MAX_BARS:
        classes = np.argsort(-probabilities, kind="stable")[:_MAX_BARS].tolist()
        if label is not None and label not in classes:
            classes[-1] = label
    percent = [100 * float(probabilities[k]) for k in classes]
    colour_of = {best: _BLUE if label in (None, best) else _VERMILLION, label: _BLUE}
    ax.barh(range(len(classes)), percent, color=[colour_of.get(k, _GREY) for k in classes], height=0.75)
    for place, k in enumerate(classes):
        is_long = percent[place] > 62
        ax.annotate(
            _percent(probabilities[k]) + (" (true)" if k == label != best else ""),
            (percent[place], place),
            xytext=(-4 if is_long else 4, 0),
            textcoords="offset points",
            ha="right" if is_long else "left",
            va="center",
            fontsize=7.5,
            fontweight="bold" if k in (best, label) else "normal",
            color="white" if is_long else None,
        )
    ax.set_yticks(range(len(classes)), [names[k] for k in classes], fontsize=8)
    ax.set_ylim(len(classes) - 0.4, -0.6)
    ax.set(xlim=(0, 100), xticks=[0, 50, 100])
    ax.set_xlabel("probability (%)", fontsize=8)
    ax.tick_params(axis="x", labelsize=8)
    ax.tick_params(axis="y", length=0)
    ax.spines[["top", "right"]].set_visible(False)


# Curves.


def _finish_curves(ax: Axes, places: str = "epochs") -> None:
    ax.set_xlabel(places)
    locator: Any = ax.xaxis.get_major_locator()
    locator.set_params(integer=ax.get_xlim()[1] > 3)
    ax.grid(color="0.9", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)


def _draw_losses(ax: Axes, history: History) -> None:
    ends = _epoch_ends(history)
    losses = np.asarray(history.step_loss, np.float64)
    steps_per_epoch = history.n_steps[0] if history.n_steps else 1  # of an epoch cut off, steps are drawn
    steps = np.arange(1, len(losses) + 1) / steps_per_epoch
    ax.plot(steps, losses, color="0.8", linewidth=0.8, label="each batch")
    if history.loss:
        marker = _marker("o", ends)
        ax.plot(_middles(ends), history.loss, color=_BLUE, marker=marker, markersize=4, label="training")
    if history.validation_loss:
        marker = _marker("s", ends)
        ax.plot(
            ends, history.validation_loss, color=_VERMILLION, marker=marker, markersize=4, label="validation"
        )
    shown = np.concatenate([losses, history.validation_loss])
    if shown.min() > 0 and shown.max() > 10 * shown.min():
        _use_log_scale(ax, math.log10(shown.max() / shown.min()))
    else:
        ax.set_ylim(bottom=0)
    ax.set_xlim(0, 1.03 * max(steps[-1], ends.max(initial=0)))
    ax.set_ylabel("mean loss per sample")
    ax.set_title("Loss")
    ax.legend(frameon=False, fontsize=9)


def _use_log_scale(ax: Axes, decades: float) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 3 else (1,)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())


def _draw_accuracy(ax: Axes, history: History) -> None:
    ends = _epoch_ends(history)
    curves = {
        "training": (_middles(ends), 100 * np.asarray(history.train_accuracy), _BLUE, "o"),
        "validation": (ends, 100 * np.asarray(history.validation_accuracy), _VERMILLION, "s"),
    }
    curves = {name: curve for name, curve in curves.items() if np.isfinite(curve[1]).any()}
    for name, (places, percent, color, marker) in curves.items():
        ax.plot(places, percent, color=color, marker=_marker(marker, ends), markersize=4, label=name)
    name, (places, percent, _, _) = list(curves.items())[-1]
    best = int(np.nanargmax(percent))
    ax.plot(places[best], percent[best], marker="o", markersize=11, markerfacecolor="none", color="black")
    together = np.concatenate([curve[1] for curve in curves.values()])
    margin = max(0.1 * float(np.nanmax(together) - np.nanmin(together)), 0.3)
    ax.set_ylim(float(np.nanmin(together)) - margin, float(np.nanmax(together)) + margin)
    ax.set_xlim(0, 1.03 * ends[-1])
    ax.set_ylabel("accuracy (%)" if len(curves) > 1 else f"{name} accuracy (%)")
    if len(curves) > 1:
        ax.legend(loc="lower right")
    ax.set_title(f"Accuracy: best {percent[best]:.2f} % (epoch {best + 1})")


def _epoch_ends(history: History) -> NDArray[np.float64]:
    """When each epoch ended, in epochs: whole numbers, but for a last one that was cut short."""
    return np.cumsum(history.n_steps) / (history.n_steps[0] if history.n_steps else 1)


def _middles(ends: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return where to draw the means over the epochs that end there."""
    middles: NDArray[np.float64] = (ends + np.concatenate([[0], ends[:-1]])) / 2
    return middles


def _marker(marker: str, places: NDArray[np.float64]) -> str:
    return marker if len(places) <= 40 else ""


# Confusion matrices.


def _counts(values: ArrayLike) -> NDArray[np.int64]:
    counts = np.asarray(values)
    square = counts.ndim == 2 and counts.shape[0] == counts.shape[1] > 0
    if not square or counts.dtype.kind not in "iu" or counts.min() < 0:
        raise ValueError(
            "A confusion matrix is a square array of counts, not "
            f"{counts.dtype} numbers of the shape {counts.shape}."
        )
    return counts.astype(np.int64)


def _label_classes(ax: Axes, names: Sequence[str]) -> None:
    ax.set_xlabel("predicted class")
    ax.set_ylabel("true class")
    if len(names) > _MAX_NAMED_CLASSES:
        return
    size = 10 if len(names) <= 12 else 8
    upright = max(map(len, names)) <= 2
    ax.set_xticks(range(len(names)), names, rotation=0 if upright else 45, fontsize=size)
    if not upright:
        for text in ax.get_xticklabels():
            text.set(ha="right", rotation_mode="anchor")
    ax.set_yticks(range(len(names)), names, fontsize=size)
    ax.tick_params(length=0)


def _draw_cell_borders(ax: Axes, n_classes: int) -> None:
    between = np.arange(0.5, n_classes - 1)
    ax.set_xticks(between, minor=True)
    ax.set_yticks(between, minor=True)
    ax.grid(which="minor", color="0.92", linewidth=0.7)
    ax.tick_params(which="minor", length=0)
    ax.spines[:].set_color("0.7")


def _count_size(ax: Axes, n_classes: int, n_digits: int) -> float:
    """Font size, in points, with which a count fits into its cell."""
    cell = 72 * ax.get_window_extent().width / ax.figure.dpi / n_classes
    return min(9, 0.33 * cell, 1.2 * cell / n_digits)


# Parts of all pictures.


def _axes(width: float, height: float) -> Axes:
    """Make a Figure of this size, in inches, with one Axes."""
    return _figure(width, height).add_subplot()


def _figure(width: float, height: float) -> Figure:
    return _figure_class()(figsize=(width, height), dpi=_DOTS_PER_INCH, layout="constrained")


@functools.cache
def _figure_class() -> type[Figure]:
    from matplotlib.figure import Figure

    class Picture(Figure):
        """A Figure that a notebook shows although pyplot does not know it."""

        def _repr_png_(self) -> bytes:
            file = io.BytesIO()
            self.savefig(file, format="png")
            return file.getvalue()

    return Picture


def _figure_of(ax: Axes) -> Figure:
    return ax.figure.figure  # of a SubFigure, too


def _add_colour_bar(ax: Axes, shown: AxesImage, label: str, *, extend: str = "neither") -> None:
    bar = _figure_of(ax).colorbar(shown, ax=ax, extend=extend, shrink=0.7, aspect=25, pad=0.03)
    bar.set_label(label)
    bar.outline.set_visible(False)


def _images(values: Any, image_shape: Sequence[int] | None) -> NDArray[Any]:
    """Return grey images, (n_images, height, width)."""
    array = _validation.real_array(values, "images")
    if array.ndim == 4 and 1 in (array.shape[1], array.shape[3]):  # a channel of its own
        array = array.reshape(len(array), *(array.shape[2:] if array.shape[1] == 1 else array.shape[1:3]))
    if array.ndim == 2:
        if image_shape is not None and len(image_shape) == 2:
            height, width = image_shape
        else:
            height = width = math.isqrt(array.shape[1])
        if height * width != array.shape[1]:
            raise ValueError(
                f"{array.shape[1]} features are no {height} x {width} image; pass arrays of (height, width), "
                "and a single one as images[np.newaxis]."
            )
        array = array.reshape(len(array), height, width)
    if array.ndim != 3 or 0 in array.shape[1:]:
        raise ValueError(f"Grey images have the shape (height, width) each, not {array.shape[1:]}.")
    return array


def _names_for(net: Net, class_names: Sequence[str] | None) -> list[str]:
    return _names(class_names if class_names is not None else net.class_names, net.layer_sizes[-1])


def _names(class_names: Sequence[str] | None, n_classes: int) -> list[str]:
    checked = _validation.class_names(class_names, n_classes)
    return [str(k) for k in range(n_classes)] if checked is None else [_safe(name) for name in checked]


def _name(label: int, class_names: Sequence[str] | None) -> str:
    if class_names is None:
        return str(label)
    if not 0 <= label < len(class_names):
        raise ValueError(f"The label {label} has no name: class_names has {len(class_names)} of them.")
    return _safe(class_names[label])


def _safe(name: str) -> str:
    """Shorten a name that would need too much room; dollar signs begin no formula."""
    one_line = " ".join(name.split())
    return (one_line if len(one_line) <= 24 else f"{one_line[:23]}…").replace("$", r"\$")


def _percent(fraction: float) -> str:
    """In percent with one decimal, but never rounded to 0 or 100 if it is neither."""
    if 0 < fraction < 0.0005:
        return "< 0.1 %"
    if 0.9995 <= fraction < 1:
        return "> 99.9 %"
    return f"{100 * fraction:.1f} %"
