"""Every picture: what it returns, where it draws, and that no text is cut off."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from fastmlp import Augmentation, Callback, Elastic, Net, plots
from fastmlp.schedules import Constant, Cosine, ReduceOnPlateau, Step, Warmup

rng = np.random.default_rng(0)
IMAGES = rng.integers(0, 256, (12, 8, 8), dtype=np.uint8)
ELASTIC = Augmentation(rotation=10, elastic=Elastic(alpha=10, sigma=3))
LONG_NAMES = ["A of a rather long name", "B of a name of more than 24 letters", "C, in $ and\nin two lines"]

Draw = Callable[..., Figure]


def net_of(n_classes: int, names: list[str] | None = None) -> Net:
    net = Net([64, 6, n_classes], seed=0)
    net.class_names = names
    return net


def history_of(epochs: int, *, validation: bool):
    labels = np.arange(12) % 3
    pair = (IMAGES, labels) if validation else None
    return net_of(3).fit(
        IMAGES, labels, epochs=epochs, batch_size=4, validation_data=pair, progress=False, threads=1
    )


def labels_of(net: Net, *, right: bool) -> np.ndarray:
    predicted = net.predict(IMAGES)
    return predicted if right else (predicted + 1) % net.layer_sizes[-1]


def mistakes_of(net: Net, *, right: bool = False, **options) -> Figure:
    return plots.mistakes(net, IMAGES, labels_of(net, right=right), **options)


def matrix_of(n_classes: int) -> np.ndarray:
    return rng.integers(0, 30, (n_classes, n_classes)) + 500 * np.eye(n_classes, dtype=int)


def prediction_of(net: Net, *, right: bool, **options) -> Figure:
    return plots.prediction(net, IMAGES[0], labels_of(net, right=right)[0], **options)


# All that can be given ax=.
DRAWINGS: dict[str, Draw] = {
    "digit": lambda **o: plots.digit(IMAGES[0], **o),
    "digit_labelled": lambda **o: plots.digit(IMAGES[0], 2, class_names=LONG_NAMES, inverted=True, **o),
    "digits": lambda **o: plots.digits(IMAGES, **o),
    "augmentations": lambda **o: plots.augmentations(ELASTIC, IMAGES[:3], **o),
    "augmentations_of_one": lambda **o: plots.augmentations(ELASTIC, IMAGES[:1], n_versions=1, **o),
    "digits_one": lambda **o: plots.digits(IMAGES[:1], [0], **o),
    "digits_long_names": lambda **o: plots.digits(IMAGES, np.arange(12) % 3, class_names=LONG_NAMES, **o),
    "prediction": lambda **o: plots.prediction(net_of(3), IMAGES[0], **o),
    "prediction_right": lambda **o: prediction_of(net_of(10), right=True, **o),
    "prediction_wrong": lambda **o: prediction_of(net_of(10), right=False, **o),
    "prediction_one_class": lambda **o: plots.prediction(net_of(1), IMAGES[0], 0, **o),
    "prediction_26_classes": lambda **o: prediction_of(net_of(26), right=False, **o),
    "learning_curves": lambda **o: plots.learning_curves(history_of(3, validation=True), **o),
    "learning_curves_one_epoch": lambda **o: plots.learning_curves(history_of(1, validation=True), **o),
    "learning_curves_no_validation": lambda **o: plots.learning_curves(history_of(3, validation=False), **o),
    "schedule": lambda **o: plots.schedule(Warmup(50, then=Cosine()), epochs=4, learning_rate=1e-5, **o),
    "schedule_factor": lambda **o: plots.schedule(ReduceOnPlateau(patience=1), **o),
    "schedule_one_step": lambda **o: plots.schedule(Constant(), epochs=1, steps_per_epoch=1, **o),
    "confusion_matrix": lambda **o: plots.confusion_matrix(matrix_of(10), **o),
    "confusion_matrix_one_class": lambda **o: plots.confusion_matrix([[7]], **o),
    "confusion_matrix_26_classes": lambda **o: plots.confusion_matrix(matrix_of(26), **o),
    "confusion_matrix_no_mistakes": lambda **o: plots.confusion_matrix(np.diag([3, 4]), **o),
    "confusion_matrix_long_names": lambda **o: plots.confusion_matrix(
        matrix_of(3), class_names=LONG_NAMES, **o
    ),
    "mistakes": lambda **o: mistakes_of(net_of(10), **o),
    "mistakes_one": lambda **o: mistakes_of(net_of(3), n=1, **o),
    "mistakes_none": lambda **o: mistakes_of(net_of(3), right=True, **o),
    "mistakes_26_classes": lambda **o: mistakes_of(net_of(26), **o),
    "mistakes_long_names": lambda **o: mistakes_of(net_of(3, LONG_NAMES), **o),
    "weights": lambda **o: plots.weights(net_of(3), **o),
    "weights_one_unit": lambda **o: plots.weights(net_of(3), n=1, **o),
}
# These make a new Figure always; names this long have no room beside an image in a given Axes.
NEW_FIGURES: dict[str, Draw] = DRAWINGS | {
    "prediction_long_names": lambda: prediction_of(net_of(3, LONG_NAMES), right=False),
    "predictions_one": lambda: plots.predictions(net_of(3), IMAGES[:1]),
    "predictions": lambda: plots.predictions(net_of(10), IMAGES[:5], labels_of(net_of(10), right=False)[:5]),
}


def visible_texts(figure: Figure) -> list[Text]:
    return [
        text
        for text in figure.findobj(Text)
        if text.get_visible() and text.get_text().strip() and (text.axes is None or text.axes.get_visible())
    ]


def tick_labels_out_of_view(figure: Figure) -> set[Text]:
    """Collect the labels of ticks beyond an axis's limits: Matplotlib keeps them, and does not draw them."""
    hidden = set()
    for ax in figure.findobj(mpl.axes.Axes):
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            margin = 1e-6 * (high - low)
            for tick in axis.get_major_ticks() + axis.get_minor_ticks():
                in_view = low - margin <= tick.get_loc() <= high + margin
                if not in_view or not ax.axison or not axis.get_visible():
                    hidden |= {tick.label1, tick.label2}
            if not ax.axison:
                hidden |= {axis.label, axis.get_offset_text()}
    return hidden


@pytest.mark.parametrize("name", NEW_FIGURES)
def test_plot_in_a_new_figure_cuts_off_no_text(name: str) -> None:
    figure = NEW_FIGURES[name]()
    assert isinstance(figure, Figure)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    hidden = tick_labels_out_of_view(figure)
    for text in visible_texts(figure):
        if text not in hidden:
            box = text.get_window_extent(renderer)
            # A pixel of tolerance: extents are rounded up to whole pixels.
            assert box.x0 >= -1, text
            assert box.y0 >= -1, text
            assert box.x1 <= figure.bbox.x1 + 1, text
            assert box.y1 <= figure.bbox.y1 + 1, text


@pytest.mark.parametrize("name", DRAWINGS)
def test_plot_in_given_axes_draws_there_and_returns_their_figure(name: str) -> None:
    figure = Figure(figsize=(6, 4))
    left, right = figure.subplots(1, 2)
    assert DRAWINGS[name](ax=right) is figure
    figure.savefig(io.BytesIO(), format="png")
    assert right.images or right.lines or right.texts or right.child_axes
    assert not (left.images or left.lines or left.texts or left.child_axes)


@pytest.mark.parametrize("name", ["digits", "prediction", "learning_curves", "mistakes", "weights"])
def test_plot_leaves_pyplot_as_it_was(name: str) -> None:
    figures, backend = pyplot.get_fignums(), mpl.get_backend()  # which settles the backend, if nobody has
    settings = mpl.rcParams.copy()
    DRAWINGS[name]()
    assert (pyplot.get_fignums(), mpl.get_backend()) == (figures, backend)
    assert mpl.rcParams == settings


def test_plot_saved_as_png_is_a_png(tmp_path: Path) -> None:
    plots.digits(IMAGES).savefig(tmp_path / "digits.png")
    assert (tmp_path / "digits.png").read_bytes().startswith(b"\x89PNG")


def test_digit_with_a_label_without_name_raises() -> None:
    with pytest.raises(ValueError, match="has no name"):
        plots.digit(IMAGES[0], 3, class_names=LONG_NAMES)


@pytest.mark.parametrize("n", [0, plots.MAX_IMAGES + 1])
def test_digits_of_none_or_too_many_raises(n: int) -> None:
    with pytest.raises(ValueError, match="1 to 400"):
        plots.digits(np.zeros((n, 8, 8), np.uint8))


def test_digits_with_too_few_labels_raises() -> None:
    with pytest.raises(ValueError, match="12 images"):
        plots.digits(IMAGES, [1, 2])


@pytest.mark.parametrize("n", [0, plots.MAX_PREDICTIONS + 1])
def test_predictions_of_none_or_too_many_raises(n: int) -> None:
    with pytest.raises(ValueError, match="1 to 24"):
        plots.predictions(net_of(3), np.zeros((n, 8, 8), np.uint8))


def test_learning_curves_of_a_first_epoch_cut_off_draws_its_steps() -> None:
    class Interrupt(Callback):
        every = 2

        def on_step(self, net: Net, fit: object) -> None:
            raise KeyboardInterrupt

    net = net_of(3)
    with pytest.raises(KeyboardInterrupt):
        net.fit(IMAGES, np.arange(12) % 3, batch_size=4, callbacks=[Interrupt()])
    (ax,) = plots.learning_curves(net.history).axes
    assert ax.get_xlabel() == "steps"
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), [1, 2])
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), net.history.step_loss)


def test_learning_curves_name_no_unit_that_the_loss_may_not_have() -> None:
    net = Net([64, 1], loss="squared_error", seed=0)
    (ax,) = plots.learning_curves(net.fit(IMAGES, np.arange(12) % 3, epochs=2)).axes
    assert ax.get_ylabel() == "mean loss per sample"


def test_learning_curves_of_no_steps_raises() -> None:
    with pytest.raises(ValueError, match="no steps"):
        plots.learning_curves(net_of(3).history)


def test_schedule_draws_the_rate_of_each_step_over_epochs() -> None:
    (line,) = plots.schedule(Step(2), epochs=3, steps_per_epoch=2, learning_rate=0.5).axes[0].lines
    np.testing.assert_array_equal(line.get_xdata(), [0, 0.5, 1, 1.5, 2, 2.5])
    np.testing.assert_array_equal(line.get_ydata(), [0.5, 0.5, 0.5, 0.5, 0.05, 0.05])


def test_schedule_on_a_plateau_draws_the_case_that_nothing_gets_better() -> None:
    (line,) = plots.schedule(ReduceOnPlateau(2), epochs=6, steps_per_epoch=1).axes[0].lines
    np.testing.assert_allclose(line.get_ydata(), [1, 1, 1, 0.1, 0.1, 0.01], rtol=1e-15)


def test_schedule_on_a_plateau_behind_a_warmup_draws_no_wait_before_its_end() -> None:
    plan = Warmup(4, then=ReduceOnPlateau(1))
    (line,) = plots.schedule(plan, epochs=7, steps_per_epoch=1).axes[0].lines
    np.testing.assert_allclose(line.get_ydata(), [0.25, 0.5, 0.75, 1, 1, 1, 0.1], rtol=1e-15)


def test_schedule_of_what_is_none_raises() -> None:
    with pytest.raises(TypeError, match="schedule must be an instance such as"):
        plots.schedule("cosine")


@pytest.mark.parametrize("matrix", [[[1, 2]], [[0.5]], [[-1]], []])
def test_confusion_matrix_of_what_is_none_raises(matrix: list) -> None:
    with pytest.raises(ValueError, match="square array of counts"):
        plots.confusion_matrix(matrix)


def test_mistakes_of_a_net_without_any_says_so() -> None:
    figure = mistakes_of(net_of(3), right=True)
    assert "No mistakes among 12 images" in [text.get_text() for text in visible_texts(figure)]


def test_more_than_one_label_and_no_history_are_refused() -> None:
    net, image = Net([784, 2], seed=0), np.zeros((28, 28), np.uint8)
    with pytest.raises(ValueError, match="label must be one class"):
        plots.prediction(net, image, [1])
    plots.prediction(net, image, np.int64(1))
    with pytest.raises(TypeError, match=r"such as net\.history, not Net"):
        plots.learning_curves(net)
