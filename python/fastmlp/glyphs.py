"""Digits drawn from fonts: images in the manner of MNIST that need no network.

Each image starts from the outline of one digit in one face of the fonts that matplotlib ships. The outline
is reduced to its medial axis, the line that a pen would follow, and drawn again with a pen of random width
after a random affine and elastic distortion; then it is treated as MNIST's digits were: scaled to fit a box
of 20 x 20 pixels and placed in
28 x 28 pixels with its centre of mass in the middle.

The fonts of the test images are not among those of the training images, nor are they of the same families.

The images depend on the seed, the fonts' outlines and `GENERATOR_VERSION` alone. Floating-point numbers are
only added, subtracted, multiplied, divided, compared and put under square roots, element by element, all of
which IEEE 754 fixes to the last bit; sums over pixels are sums of integers; random numbers come from
Philox, whose stream NumPy guarantees, and are turned into floats here.

References
----------
P. Y. Simard, D. Steinkraus, J. C. Platt: Best practices for convolutional neural networks applied to visual
document analysis, ICDAR 2003 (elastic distortion; here the random displacements are smoothed by a cubic
B-spline, not a Gaussian). H. Blum: A transformation for extracting new descriptors of shape, 1967 (the
medial axis).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp import _validation

GENERATOR_VERSION = 1
"""Raised whenever the same seed gives other images than before."""


@dataclass(frozen=True)
class Face:
    """Ten digits of one design.

    Parameters
    ----------
    family : str
        The family the design belongs to; families share no designs.
    file : str
        File name of the font, among those that matplotlib ships.
    zero : int, default ord("0")
        Code point of the digit 0; the others follow it. The STIX fonts hold further sets of digits for
        mathematics.
    """

    family: str
    file: str
    zero: int = ord("0")


TRAINING_FACES: tuple[Face, ...] = (
    Face("DejaVu", "DejaVuSans.ttf"),
    Face("DejaVu", "DejaVuSans-Bold.ttf"),
    Face("DejaVu", "DejaVuSans-Oblique.ttf"),
    Face("DejaVu", "DejaVuSerif.ttf"),
    Face("DejaVu", "DejaVuSerif-Bold.ttf"),
    Face("DejaVu", "DejaVuSerif-Italic.ttf"),
    Face("Computer Modern", "cmr10.ttf"),
    Face("Computer Modern", "cmb10.ttf"),
    Face("Computer Modern", "cmss10.ttf"),
    Face("Computer Modern", "cmtt10.ttf"),
    Face("Computer Modern", "cmmi10.ttf"),
)
"""What training and validation images are drawn from."""

_SANS, _BOLD_SANS, _MONOSPACE = 0x1D7E2, 0x1D7EC, 0x1D7F6  # Unicode's mathematical digits

TEST_FACES: tuple[Face, ...] = (
    Face("STIX", "STIXGeneral.ttf"),
    Face("STIX", "STIXGeneralBol.ttf"),
    Face("STIX", "STIXGeneralItalic.ttf"),
    Face("STIX", "STIXGeneralBolIta.ttf"),
    Face("STIX", "STIXGeneral.ttf", _SANS),
    Face("STIX", "STIXGeneral.ttf", _BOLD_SANS),
    Face("STIX", "STIXGeneral.ttf", _MONOSPACE),
)
"""What test images are drawn from."""

Floats = NDArray[np.float32]

# Lengths are in boxes: the digit's larger side is 1, and becomes 20 pixels. x points right, y down.
_IMAGE = 28
_BOX = 20
_CURVE_PIECES = 4
_AXIS_GRID = 112  # points a side at which the medial axis is looked for
_AXIS_SPACING = 0.02  # of the points kept; 0.4 pixels
_FIELD = 48  # points a side at which the distance to the axis is tabulated
_FIELD_SIDE = 1.6
_PLAN = 20  # points a side, over the same square, at which the distorted digit's extent is measured
_KNOTS = 8  # a side, of the splines that distort
_CHUNK = 100  # images drawn at a time: their arrays fit the cache. Part of the random numbers' order.
_NUMBERS_PER_IMAGE = 3 * _KNOTS * _KNOTS + 20
# A digit's width and how much of its strokes' own contrast is kept, drawn from these with equal chance.
_STYLES = ((0.95, 0.5), (1.15, 0.0), (1.35, 0.25), (1.55, 0.0))


def draw(faces: tuple[Face, ...], n: int, *, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw random digits.

    Parameters
    ----------
    faces : tuple of Face
        What to draw from; each image takes one of them at random.
    n : int
        Number of images.
    seed : int
        From 0 to 2**64 - 1. Image i depends on the faces, the seed and i alone, not on `n`.

    Returns
    -------
    images : numpy.ndarray of uint8, shape (n, 28, 28)
        White (255) on black (0).
    labels : numpy.ndarray of uint8, shape (n,)
        The digits; each is equally likely.

    Raises
    ------
    TypeError, ValueError
        If `n` or `seed` is not a whole number in its range.
    FileNotFoundError
        If matplotlib's fonts are not where it keeps them.

    Examples
    --------
    >>> images, labels = draw(TEST_FACES, 3, seed=0)
    >>> images.shape, labels.shape
    ((3, 28, 28), (3,))
    """
    seed = _validation.seed(seed)
    n = _validation.whole_number(n, "n", minimum=0)
    fields = np.stack([_fields(face, digit) for face in faces for digit in range(10)])
    fields = fields.reshape(len(faces), 10, len(_STYLES), -1)
    images = np.empty((n, _IMAGE, _IMAGE), np.uint8)
    labels = np.empty(n, np.uint8)
    for start in range(0, n, _CHUNK):
        chunk = slice(start, min(start + _CHUNK, n))
        all_images, all_labels = _draw_chunk(fields, _philox(seed, start // _CHUNK))
        images[chunk] = all_images[: chunk.stop - start]
        labels[chunk] = all_labels[: chunk.stop - start]
    return images, labels


def _philox(seed: int, stream: int) -> np.random.Philox:
    return np.random.Philox(key=np.array([seed, stream], np.uint64))


def outline(face: Face, digit: int) -> Floats:
    """Return a digit's outline as straight pieces.

    Parameters
    ----------
    face : Face
        The design.
    digit : int
        From 0 to 9.

    Returns
    -------
    numpy.ndarray of float32, shape (n_pieces, 4)
        Each piece's ends (x0, y0, x1, y1), in order along closed curves; the outline's larger side is 1 and
        its middle is at 0.

    Raises
    ------
    FileNotFoundError
        If matplotlib's fonts are not where it keeps them.
    ValueError
        If the font has no such character.
    """
    vertices, codes = _font_path(face, face.zero + digit)
    curves: list[list[tuple[float, float]]] = []
    i = 0
    while i < len(codes):
        end = (float(vertices[i][0]), -float(vertices[i][1]))
        if codes[i] == _MOVE:
            curves.append([end])
        elif codes[i] == _LINE:
            curves[-1].append(end)
        elif codes[i] == _QUADRATIC:
            (x0, y0), (x1, y1) = curves[-1][-1], end
            i += 1
            x2, y2 = float(vertices[i][0]), -float(vertices[i][1])
            for piece in range(1, _CURVE_PIECES + 1):
                t = piece / _CURVE_PIECES
                a, b, c = (1 - t) * (1 - t), 2 * t * (1 - t), t * t
                curves[-1].append((a * x0 + b * x1 + c * x2, a * y0 + b * y1 + c * y2))
        i += 1
    ends = np.array([[*a, *b] for curve in curves for a, b in zip(curve, curve[1:] + curve[:1], strict=True)])
    low, high = ends[:, :2].min(axis=0), ends[:, :2].max(axis=0)
    middle, side = (low + high) / 2, (high - low).max()
    pieces: Floats = ((ends - np.tile(middle, 2)) / side).astype(np.float32)
    return np.asarray(pieces[(pieces[:, :2] != pieces[:, 2:]).any(axis=1)])


_MOVE, _LINE, _QUADRATIC = 1, 2, 3  # matplotlib.path.Path's codes; TrueType has no cubic curves


def _font_path(face: Face, code_point: int) -> tuple[NDArray[np.float64], NDArray[np.integer[Any]]]:
    """Read a character's path in the font's own units, which no version of FreeType rounds."""
    import matplotlib
    from matplotlib import ft2font

    file = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / face.file
    if not file.is_file():
        raise FileNotFoundError(f"{file} is missing; matplotlib ships this font, so reinstall matplotlib.")
    # Before 3.11, FT2Font scaled horizontally by a factor, and rounded, unless that factor was 1.
    factor: dict[str, Any] = {} if matplotlib.__version_info__ >= (3, 11) else {"hinting_factor": 1}
    font = ft2font.FT2Font(str(file), **factor)
    if font.get_char_index(code_point) == 0:
        raise ValueError(f"{file} has no character U+{code_point:04X}.")
    flags: Any = ft2font
    no_scale = flags.LoadFlags.NO_SCALE if hasattr(flags, "LoadFlags") else flags.LOAD_NO_SCALE
    font.load_char(code_point, flags=no_scale)
    return font.get_path()


# From an outline to tables of the distance to its medial axis


def _fields(face: Face, digit: int) -> Floats:
    """Tabulate the signed distance to the pen's line, for each style; (n_styles, _FIELD, _FIELD)."""
    x, y, radius = _medial_axis(outline(face, digit))
    excess = radius - _at_fraction(radius, 0.5)
    grid = _lattice(_FIELD, _FIELD_SIDE)
    fields = np.empty((len(_STYLES), _FIELD, _FIELD), np.float32)
    dy2 = _square(grid[:, None] - y)
    for field, (width, contrast) in zip(fields, _STYLES, strict=True):
        dx2 = _square(grid[:, None] - np.float32(width) * x)
        distance = dy2[:, None, :] + dx2[None, :, :]
        if contrast:
            np.sqrt(distance, out=distance)
            distance -= np.float32(contrast) * excess
            distance.min(axis=2, out=field)
        else:
            np.sqrt(distance.min(axis=2), out=field)
    return fields


def _medial_axis(pieces: Floats) -> tuple[Floats, Floats, Floats]:
    """Find the points inside an outline that have two nearest points on it, and their distance to it."""
    grid = _lattice(_AXIS_GRID, 1.04)
    inside = _is_inside(pieces, grid)
    rows, columns = np.nonzero(inside)
    x, y = grid[columns], grid[rows]
    near_x, near_y = _nearest(pieces, x, y)
    radius = np.sqrt(_square(x - near_x) + _square(y - near_y))
    place = np.full((_AXIS_GRID, _AXIS_GRID), -1)
    place[rows, columns] = np.arange(len(rows))

    # The axis passes between two neighbours whose nearest points lie on opposite sides.
    neighbours = [(place[:, :-1], place[:, 1:]), (place[:-1], place[1:])]
    first = np.concatenate([a[(a >= 0) & (b >= 0)] for a, b in neighbours])
    second = np.concatenate([b[(a >= 0) & (b >= 0)] for a, b in neighbours])
    dot = (x[first] - near_x[first]) * (x[second] - near_x[second])
    dot += (y[first] - near_y[first]) * (y[second] - near_y[second])
    opposite = dot < np.float32(-0.35) * radius[first] * radius[second]
    # Where broad strokes meet, the sides are less opposed but far apart; at a mere corner they are near.
    stroke = _at_fraction(radius[first][opposite], 0.8)
    apart = np.sqrt(_square(near_x[first] - near_x[second]) + _square(near_y[first] - near_y[second]))
    on_axis = opposite | (apart > np.float32(1.3) * stroke)

    a, b = first[on_axis], second[on_axis]
    axis_x, axis_y = (x[a] + x[b]) / 2, (y[a] + y[b]) / 2
    cells = np.floor(axis_y / _AXIS_SPACING) * 1000 + np.floor(axis_x / _AXIS_SPACING)
    kept = np.unique(cells, return_index=True)[1]
    return axis_x[kept], axis_y[kept], np.maximum(radius[a], radius[b])[kept]


def _is_inside(pieces: Floats, grid: Floats) -> NDArray[np.bool_]:
    """Tell which points of a square lattice an outline winds around; (n_y, n_x)."""
    x0, y0, x1, y1 = pieces.T
    y = grid[:, None]
    down, up = (y0 <= y) & (y1 > y), (y1 <= y) & (y0 > y)
    rows, which = np.nonzero(down | up)
    crossing = x0[which] + (grid[rows] - y0[which]) * ((x1 - x0)[which] / (y1 - y0)[which])
    turns = np.zeros((len(grid), len(grid) + 1), np.int64)
    np.add.at(turns, (rows, np.searchsorted(grid, crossing)), np.where(down[rows, which], 1, -1))
    return np.asarray(turns.cumsum(axis=1)[:, :-1] != 0)


def _nearest(pieces: Floats, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Give the point of the outline that is nearest to each of the points (x, y)."""
    x0, y0, x1, y1 = pieces.T
    dx, dy = x1 - x0, y1 - y0
    length2 = _square(dx) + _square(dy)
    t = (x[:, None] - x0) * dx
    t += (y[:, None] - y0) * dy
    t /= length2
    np.clip(t, 0, 1, out=t)
    distance2 = _square(x0 + t * dx - x[:, None])
    distance2 += _square(y0 + t * dy - y[:, None])
    nearest = distance2.argmin(axis=1)
    t = t[np.arange(len(x)), nearest]
    return x0[nearest] + t * dx[nearest], y0[nearest] + t * dy[nearest]


# From tables to images


def _draw_chunk(fields: Floats, philox: np.random.Philox) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw _CHUNK images; fields is (n_faces, 10, n_styles, _FIELD * _FIELD)."""
    n_faces = len(fields)
    raw = philox.random_raw(_CHUNK * _NUMBERS_PER_IMAGE).reshape(_NUMBERS_PER_IMAGE, _CHUNK)
    noise = philox.random_raw(_CHUNK * _BOX * _BOX // 8).astype("<u8").view(np.uint8)
    labels = (raw[0] % np.uint64(10)).astype(np.uint8)
    face = (raw[1] % np.uint64(n_faces)).astype(np.intp)
    style = (raw[2] % np.uint64(len(_STYLES))).astype(np.intp)
    table = np.ascontiguousarray(fields[face, labels, style])
    random = iter(((raw[3:] >> np.uint64(11)).astype(np.float64) * 2.0**-53).astype(np.float32))

    def uniform(low: float, high: float) -> Floats:
        """Draw one number per image, (_CHUNK, 1, 1)."""
        numbers: Floats = np.float32(low) + np.float32(high - low) * next(random)
        return numbers[:, None, None]

    def bell(mean: float, spread: float) -> Floats:
        """Sum three uniform numbers to one with a bell-shaped density on mean - spread ... mean + spread."""
        third = spread / 3
        return uniform(mean - third, mean + third) + uniform(-third, third) + uniform(-third, third)

    def knots() -> Floats:
        """Draw a square of numbers for each image, uniform in (-1, 1)."""
        values = np.stack([next(random) for _ in range(_KNOTS * _KNOTS)], axis=1)
        return (2 * values - 1).reshape(-1, _KNOTS, _KNOTS)

    pen = bell(1.2, 0.6)  # half the width, in pixels
    softness = uniform(0.9, 1.5)
    raggedness = uniform(0.0, 0.3)
    brightness = uniform(1.0, 1.15)
    pressure = uniform(0.0, 0.7)
    pressure_knots = knots()
    distortion = _Distortion(
        half_angle=bell(0.0, 0.14),
        slant=bell(0.15, 0.55),
        stretch=bell(1.0, 0.2),
        knots_x=knots(),
        knots_y=knots(),
        strength=uniform(0.04, 0.2),
    )

    # Where the distorted digit lies, and how large it is
    plan = np.broadcast_to(_lattice(_PLAN, _FIELD_SIDE), (_CHUNK, _PLAN))
    distance = _distances(table, distortion, plan, plan)
    distance -= (pen + (softness + raggedness + pressure) / 2) / _BOX  # where the last grey may end
    left, right = _extent(distance.min(axis=1), plan[0])
    top, bottom = _extent(distance.min(axis=2), plan[0])
    pixel = np.maximum(np.maximum(right - left, bottom - top), np.float32(0.3)) / _BOX  # in boxes

    pixels = _lattice(_BOX, _BOX)
    x = ((left + right) / 2)[:, None] + pixel[:, None] * pixels
    y = ((top + bottom) / 2)[:, None] + pixel[:, None] * pixels
    distance = _distances(table, distortion, x, y)
    distance /= pixel[:, None, None]
    distance -= pen + pressure * _spline(pressure_knots, _spline_weights(x), _spline_weights(y))
    distance += raggedness * (noise.reshape(distance.shape).astype(np.float32) / 255 - np.float32(0.5))
    ink = np.clip((np.float32(0.5) - distance / softness) * brightness, 0, 1)
    return _centred_by_mass((ink * 255 + np.float32(0.5)).astype(np.uint8)), labels


@dataclass(frozen=True)
class _Distortion:
    """What the image shows where: an affine map of the digit plus a smooth random displacement."""

    half_angle: Floats  # tangent of half the angle of rotation
    slant: Floats
    stretch: Floats
    knots_x: Floats  # (n, _KNOTS, _KNOTS)
    knots_y: Floats
    strength: Floats  # of the displacement, in boxes


def _distances(table: Floats, distortion: _Distortion, x: Floats, y: Floats) -> Floats:
    """Look up the distance to the pen's line, in boxes, at x (n, n_x) times y (n, n_y)."""
    along_x, along_y = _spline_weights(x), _spline_weights(y)
    shift_x = _spline(distortion.knots_x, along_x, along_y)
    shift_y = _spline(distortion.knots_y, along_x, along_y)

    # With t = tan(angle / 2), (1 - t^2) / (1 + t^2) and 2 t / (1 + t^2) are cosine and sine, without a libm.
    t = distortion.half_angle
    cosine, sine = (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)
    turned_x = cosine * x[:, None, :] + sine * y[:, :, None]
    turned_y = cosine * y[:, :, None] - sine * x[:, None, :]
    from_x = turned_x * distortion.stretch + distortion.slant * turned_y + distortion.strength * shift_x
    from_y = turned_y / distortion.stretch + distortion.strength * shift_y
    return _interpolate(table, from_x, from_y)


def _spline_weights(x: Floats) -> list[Floats]:
    """Evaluate the cubic B-splines with _KNOTS knots over the field's square; each is (n, n_x)."""
    spacing = _FIELD_SIDE / (_KNOTS - 3)
    weights = []
    for knot in range(_KNOTS):
        distance = np.abs(x - np.float32((knot - (_KNOTS - 1) / 2) * spacing)) / np.float32(spacing)
        near = (4 - 6 * _square(distance) + 3 * _square(distance) * distance) / 6
        far = _square(np.maximum(2 - distance, 0)) * np.maximum(2 - distance, 0) / 6
        weights.append(np.where(distance < 1, near, far))
    return weights


def _spline(knots: Floats, along_x: list[Floats], along_y: list[Floats]) -> Floats:
    """Sum knots (n, _KNOTS, _KNOTS) times the weights of their row and column; (n, n_y, n_x)."""
    result = np.zeros((len(knots), along_y[0].shape[1], along_x[0].shape[1]), np.float32)
    for row in range(_KNOTS):
        line = knots[:, row, 0, None] * along_x[0]
        for column in range(1, _KNOTS):
            line += knots[:, row, column, None] * along_x[column]
        result += along_y[row][:, :, None] * line[:, None, :]
    return result


def _interpolate(table: Floats, x: Floats, y: Floats) -> Floats:
    """Look up tables (n, _FIELD * _FIELD) between their points; outside, their edges count."""
    scale, middle = np.float32(_FIELD / _FIELD_SIDE), np.float32((_FIELD - 1) / 2)
    x = np.clip(x * scale + middle, 0, np.float32(_FIELD - 1.01))
    y = np.clip(y * scale + middle, 0, np.float32(_FIELD - 1.01))
    column, row = np.floor(x), np.floor(y)
    x -= column
    y -= row
    tables = np.arange(len(table), dtype=np.int32)[:, None, None] * (_FIELD * _FIELD)
    place = (row * _FIELD + column).astype(np.int32) + tables
    flat = table.reshape(-1)
    upper = flat.take(place)
    upper += x * (flat.take(place + 1) - upper)
    place += _FIELD
    lower = flat.take(place)
    lower += x * (flat.take(place + 1) - lower)
    return upper + y * (lower - upper)


def _extent(nearest: Floats, grid: Floats) -> tuple[Floats, Floats]:
    """Find where ink begins and ends along a side, given the smallest distance in each column, (n, n_x)."""
    inked = nearest < 0
    images = np.arange(len(nearest))
    first = np.maximum(inked.argmax(axis=1), 1)
    last = np.minimum(len(grid) - 1 - inked[:, ::-1].argmax(axis=1), len(grid) - 2)
    step = grid[1] - grid[0]

    def edge(inner: NDArray[np.intp], outer: NDArray[np.intp]) -> Floats:
        """Interpolate to where the distance is 0."""
        a, b = nearest[images, inner], nearest[images, outer]
        return np.asarray(np.clip(-a / np.maximum(b - a, np.float32(1e-6)), 0, 1) * step)

    return grid[first] - edge(first, first - 1), grid[last] + edge(last, last + 1)


def _centred_by_mass(boxes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Place boxes (n, _BOX, _BOX) in images, their centres of mass as near the middle as whole pixels go."""
    mass = boxes.sum(axis=(1, 2), dtype=np.int64)
    weights = 2 * np.arange(_BOX) - (_BOX - 1)  # twice the distance from the middle
    margin = (_IMAGE - _BOX) // 2
    starts = []
    for axis in (1, 2):
        moment = (boxes.sum(axis=3 - axis, dtype=np.int64) * weights).sum(axis=1)
        shift = (moment + mass) // np.maximum(2 * mass, 1)  # half a pixel rounds up
        starts.append((margin - np.clip(shift, -margin, margin))[:, None] + np.arange(_BOX))
    images = np.zeros((len(boxes), _IMAGE, _IMAGE), np.uint8)
    images[np.arange(len(boxes))[:, None, None], starts[0][:, :, None], starts[1][:, None, :]] = boxes
    return images


def _lattice(n: int, side: float) -> Floats:
    """Give the middles of n equal parts of a line of this length, centred at 0."""
    middles = (np.arange(n, dtype=np.float32) + np.float32(0.5)) / np.float32(n)
    return (middles - np.float32(0.5)) * np.float32(side)


def _at_fraction(values: Floats, fraction: float) -> np.float32:
    """Give the value below which this fraction of the values lie."""
    return np.float32(np.sort(values)[int(fraction * (len(values) - 1))])


def _square(values: Floats) -> Floats:
    return values * values
