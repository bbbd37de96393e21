"""Any image of a digit a person would try, turned into one like MNIST's: 28 x 28, white on black.

How MNIST itself was made [1]_: the digit's bounding box is scaled into 20 x 20 pixels, its aspect ratio kept,
and the result is placed in 28 x 28 pixels such that its centre of mass is in the middle. `read` does that to
an image file, after finding out which of its pixels are ink: those whose colour stands out from the paper's,
however dark, bright or unevenly lit the paper is.

References
----------
.. [1] Y. LeCun, C. Cortes and C. J. C. Burges, "The MNIST database of handwritten digits",
   http://yann.lecun.com/exdb/mnist/.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from PIL import Image

FloatArray: TypeAlias = NDArray[np.float32]

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "DIB", "TIFF", "WEBP", "AVIF", "JPEG2000", "PPM", "TGA", "PCX")
"""The formats that are read; not all that Pillow knows: to read EPS it runs another program, and it decodes
an icon (ICO) before one can ask how large that is."""

MAX_PIXELS = 50_000_000
"""An image with more pixels is refused before it is decoded."""

_SIDE = 28  # the finished image
_BOX = 20  # the digit's longer side in it
_WORKING_SIDE = 1024  # larger images are reduced to at most this before anything is looked for in them
_LABELING_SIDE = 192  # connected parts are found on a mask this coarse
_THICKENING_SIDE = 8 * _BOX  # strokes are thickened at this resolution

_MIN_CONTRAST = 0.06  # between ink and paper, of the full range: less is taken for an empty sheet
_INK_THRESHOLD = 0.08  # of full ink: what is fainter belongs to the paper
_SMALLEST_PART = 0.06  # of the ink of the largest connected part: what has less is a speck
# Strokes of MNIST's digits are 2.6 pixels wide on average by the measure used here, 1.9 at the 5th
# percentile.
_THINNEST_STROKE = 1.9
_WANTED_STROKE = 2.4


def read(source: str | os.PathLike[str] | BinaryIO, *, as_is: bool = False) -> NDArray[np.uint8]:
    """Read an image file of one digit as a 28 x 28 image like MNIST's.

    Any size up to `MAX_PIXELS`, in colour or grey, dark on bright or bright on dark, with a transparent
    background or a palette, 8 or 16 bits deep, turned upright by its EXIF orientation. Of several frames the
    first is read. An image that is 28 x 28 and already looks like one of MNIST's (or like its negative) keeps
    its pixels.

    Parameters
    ----------
    source : str, os.PathLike or typing.BinaryIO
        The file's name, or a file opened for reading bytes.
    as_is : bool, default False
        Do not look for a digit: make the whole image grey and scale it to 28 x 28, no more. For nets that
        were trained on something else than centred digits, clothes for example.

    Returns
    -------
    numpy.ndarray of uint8, shape (28, 28)
        White (255) on black (0).

    Raises
    ------
    ValueError
        If the file is not an image in one of `FORMATS`, is damaged, has more than `MAX_PIXELS` pixels or too
        few to be a digit, or is blank. The message names the file.
    OSError
        If the file cannot be opened.

    See Also
    --------
    mnist_like : the same for pixels in memory.

    Examples
    --------
    >>> import tempfile
    >>> from PIL import Image, ImageDraw
    >>> picture = Image.new("RGB", (300, 200), "ivory")
    >>> ImageDraw.Draw(picture).line([(150, 40), (150, 160)], fill="navy", width=14)
    >>> with tempfile.TemporaryFile() as file:
    ...     picture.save(file, "PNG")
    ...     _ = file.seek(0)
    ...     one = read(file)
    >>> one.shape, one.dtype, int(one.max())
    ((28, 28), dtype('uint8'), 255)
    """
    if isinstance(source, (str, os.PathLike)):
        with open(source, "rb") as file:  # noqa: PTH123 - str or PathLike alike
            return _read(file, os.fspath(source), as_is)
    return _read(source, str(getattr(source, "name", "the image")), as_is)


def mnist_like(pixels: ArrayLike) -> NDArray[np.uint8]:
    """Turn the pixels of an image of one digit into a 28 x 28 image like MNIST's.

    Parameters
    ----------
    pixels : array_like, shape (height, width) or (height, width, 3)
        Grey or red, green, blue. uint8 means 0 to 255; any other numbers are taken to span black to white
        from their smallest to their largest, or from 0 to 1 if they lie within.

    Returns
    -------
    numpy.ndarray of uint8, shape (28, 28)
        White (255) on black (0), the digit 20 pixels long and centred by its centre of mass.

    Raises
    ------
    ValueError
        If the shape is another one, the image is too small, blank, or holds values that are not finite.

    Notes
    -----
    The paper's colour is taken from the border of the image. Where the border is not of one colour, a
    quadratic surface is fitted robustly to what is not ink, so a shadow or a vignette does no harm. Specks,
    and strips along the border, are left out. Where a sheet of paper lies on a table, it is the sheet that is
    looked at. Strokes much thinner than any in MNIST (a ball pen on a whole sheet) are thickened. Ruled lines
    are taken for ink.

    Examples
    --------
    >>> drawing = np.full((100, 100), 250, np.uint8)  # black on white
    >>> drawing[20:80, 47:54] = 30
    >>> mnist_like(drawing)[14, 10:18].tolist()
    [0, 0, 0, 255, 255, 0, 0, 0]
    """
    colours = _unit_range(np.asarray(pixels))
    if colours.ndim == 2:
        colours = np.repeat(colours[:, :, np.newaxis], 3, axis=2)
    if colours.ndim != 3 or colours.shape[2] != 3:
        raise ValueError(
            f"pixels must have the shape (height, width) or (height, width, 3), not {np.shape(pixels)}."
        )
    return _mnist_like(colours)


# From a file to colours.


def _read(file: BinaryIO, name: str, as_is: bool) -> NDArray[np.uint8]:
    try:
        colours = _decode(file)
        return _grey_28(colours) if as_is else _mnist_like(colours)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _decode(file: BinaryIO) -> FloatArray:
    """Colours in 0 to 1, (height, width, 3), no side longer than _WORKING_SIDE."""
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's on large images (checked below) and on odd metadata
            with Image.open(file, formats=FORMATS) as image:
                return _decode_opened(image)
    except UnidentifiedImageError:
        raise ValueError(_not_an_image(file)) from None
    except Image.DecompressionBombError:
        raise ValueError(
            f"too large: more than {MAX_PIXELS:,} pixels. Scale it down, or cut the digit out."
        ) from None
    except (_UnusableImageError, MemoryError):
        raise
    except (
        Exception
    ) as error:  # hostile bytes raise nearly anything inside a decoder: struct.error, KeyError, ...
        raise ValueError(f"damaged or incomplete image ({_first_line(error)}).") from error


class _UnusableImageError(ValueError):
    """An image that was decoded, or need not be, and is of no use."""


def _decode_opened(image: Image.Image) -> FloatArray:
    from PIL import ImageOps

    width, height = image.size
    if width * height > MAX_PIXELS:
        raise _UnusableImageError(
            f"too large: {width:,} x {height:,} pixels are more than {MAX_PIXELS:,}. "
            "Scale it down, or cut the digit out."
        )
    _check_size(height, width)
    image.draft(None, (_WORKING_SIDE, _WORKING_SIDE))  # a JPEG decoder can reduce while it decodes
    image.load()
    ImageOps.exif_transpose(image, in_place=True)
    factor = max(1, -(-max(image.size) // _WORKING_SIDE))
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return np.repeat(_deep_grey(image, factor)[:, :, np.newaxis], 3, axis=2)
    if image.mode in ("L", "RGB", "CMYK"):  # reduced first, it takes less memory
        return _unit_range(np.asarray(image.reduce(factor).convert("RGB")))
    if not image.has_transparency_data:
        return _unit_range(_by_tiles(image, factor, lambda tile: tile.convert("RGB").reduce(factor)))
    premultiplied = _by_tiles(  # else hidden colours would bleed in
        image, factor, lambda tile: tile.convert("RGBA").convert("RGBa").reduce(factor)
    )
    return _on_a_ground(_unit_range(premultiplied))


def _deep_grey(image: Image.Image, factor: int) -> FloatArray:
    """Grey in 0 to 1 of an image whose pixels are larger than bytes, reduced."""
    extremes = [_extremes(np.asarray(tile)) for row in _tiles(image, factor) for tile in row]
    black, white = min(low for low, _ in extremes), max(high for _, high in extremes)
    return _by_tiles(
        image, factor, lambda tile: _block_mean(_unit_range(np.asarray(tile), (black, white)), factor)
    )


def _by_tiles(
    image: Image.Image, factor: int, reduced: Callable[[Image.Image], Image.Image | FloatArray]
) -> NDArray[Any]:
    """Reduce an image tile by tile: what is made of each on the way takes many times as much memory."""
    rows = [[np.asarray(reduced(tile)) for tile in row] for row in _tiles(image, factor)]
    return np.concatenate([np.concatenate(row, axis=1) for row in rows])


def _tiles(image: Image.Image, factor: int) -> Iterator[Iterator[Image.Image]]:
    """Cut an image into rows of tiles, whose sides can be divided by the factor but for the last ones."""
    side = factor * max(1, _WORKING_SIDE // factor)
    for top in range(0, image.height, side):
        bottom = min(top + side, image.height)
        lefts = range(0, image.width, side)
        yield (image.crop((left, top, min(left + side, image.width), bottom)) for left in lefts)


def _on_a_ground(premultiplied: FloatArray) -> FloatArray:
    """Put a partly transparent image on a ground that shows what is on it."""
    colours, alpha = premultiplied[:, :, :3], premultiplied[:, :, 3:]
    if alpha.max() < _MIN_CONTRAST:
        raise _UnusableImageError("blank: all of it is transparent.")
    opaque = alpha[:, :, 0] > 0.5
    solid = colours[opaque] / alpha[opaque] if opaque.any() else colours[alpha[:, :, 0] > 0]
    ground: FloatArray | float
    if opaque.mean() > 0.5 and float(np.ptp(solid, axis=0).max()) > 4 * _MIN_CONTRAST:
        ground = np.median(solid, axis=0).astype(
            np.float32
        )  # a tile with rounded corners, say: go on in its colour
    else:
        ground = 1.0 if float(solid.mean()) < 0.5 else 0.0
    return np.asarray(colours + (1 - alpha) * ground, np.float32)


def _unit_range(values: NDArray[np.generic], extremes: tuple[float, float] | None = None) -> FloatArray:
    """Turn pixels into 0 to 1; extremes are the smallest and the largest value if these are but a part."""
    if values.dtype == np.bool_ or values.size == 0:
        return values.astype(np.float32)
    if values.dtype == np.uint8:
        return (values.astype(np.float64) / 255).astype(np.float32)
    low, high = extremes or _extremes(values)
    if np.issubdtype(values.dtype, np.floating) and low >= 0 and high <= 1:
        return values.astype(np.float32)
    # 12 bits in a 16-bit file, thermal cameras, ...: where white lies is not known. A hundredth of the range
    # is noise.
    span = max(high - low, 0.01 * abs(high), np.finfo(np.float64).tiny)
    return ((values.astype(np.float64) - low) / span).astype(np.float32)


def _extremes(values: NDArray[Any]) -> tuple[float, float]:
    if not np.issubdtype(values.dtype, np.integer) and not np.issubdtype(values.dtype, np.floating):
        raise _UnusableImageError(f"pixels must be real numbers, not {values.dtype}.")
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():
        raise _UnusableImageError("some pixels are infinite or not a number.")
    return low, high


def _not_an_image(file: BinaryIO) -> str:
    file.seek(0)
    start = file.read(64)
    if not start:
        return "the file is empty."
    if start[4:8] == b"ftyp" and start[8:12] in (b"heic", b"heix", b"mif1", b"hevc"):
        return "an HEIC image, which cannot be read here. Save it as PNG or JPEG."
    if start[:4] == b"\0\0\1\0":
        return "an icon (ICO), which cannot be read here. Save it as PNG."
    if start.lstrip().lower().startswith((b"<svg", b"<?xml", b"%pdf", b"%!ps")):
        return "a drawing made of lines (SVG, PDF or PostScript), not of pixels. Save it as PNG."
    return "not an image that can be read here (PNG, JPEG, GIF, BMP, TIFF, WebP and a few more can)."


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:100] or type(error).__name__


# From colours to 28 x 28.


def _mnist_like(colours: FloatArray) -> NDArray[np.uint8]:
    _check_size(*colours.shape[:2])
    if colours.shape[:2] == (_SIDE, _SIDE):
        finished = _if_mnist_like_already(colours)
        if finished is not None:
            return finished
    return _centred(_in_box(_thickened(_digit(colours))))


def _grey_28(colours: FloatArray) -> NDArray[np.uint8]:
    grey = _grey(colours)
    return _bytes(grey if grey.shape == (_SIDE, _SIDE) else _resized(grey, _SIDE, _SIDE))


def _check_size(height: int, width: int) -> None:
    if max(height, width) < 8 or min(height, width) < 2:
        raise _UnusableImageError(f"too small: {width} x {height} pixels cannot show a digit.")


def _if_mnist_like_already(colours: FloatArray) -> NDArray[np.uint8] | None:
    grey = _grey(colours)
    white_on_black = 1 - grey if np.median(_border(grey)) > 0.5 else grey
    box = _bounding_box(white_on_black > 0.1)
    if np.median(_border(white_on_black)) > 0.02 or white_on_black.max() < 0.5 or box is None:
        return None
    rows, columns = box
    long_side = max(rows.stop - rows.start, columns.stop - columns.start)
    if not _BOX - 2 <= long_side <= _BOX or np.abs(_centre_of_mass(white_on_black) - _SIDE / 2).max() > 1:
        return None
    return _bytes(white_on_black)


def _digit(colours: FloatArray) -> FloatArray:
    """Find the ink of the digit, and cut out its bounding box."""
    ink, box = _cut_out(_ink(colours))
    sheet = _inside_of_sheet(ink, box)
    if sheet is not None:
        with contextlib.suppress(_UnusableImageError):  # a bare bar is the digit 1, not a sheet
            return _digit(colours[sheet])
    return ink[box]


def _inside_of_sheet(ink: FloatArray, box: tuple[slice, slice]) -> tuple[slice, slice] | None:
    """Tell whether what stands out is a sheet of paper on a table; return its inner part if so."""
    if (ink[box] > 0.5).mean() < 0.85 or ink[box].size < 0.1 * ink.size:
        return None
    rows, columns = (
        slice(side.start + margin, side.stop - margin)
        for side, margin in ((side, (side.stop - side.start) // 12) for side in box)
    )
    return rows, columns


def _ink(colours: FloatArray) -> FloatArray:
    """How much of each pixel is ink, 0 to 1, (height, width)."""
    paper = _paper(colours)
    light = _light(paper)
    difference = (colours - paper) / light[:, :, np.newaxis]  # in the shade, ink stands out less
    distance = np.sqrt((difference**2).sum(axis=2))
    # Ink lies on one side of the paper's colour: shine and noise on the other side do not count.
    strong = distance > 0.5 * _peak(distance)
    direction = (difference[strong] * distance[strong, np.newaxis]).sum(axis=0)
    length = float(np.linalg.norm(direction))
    if length == 0:
        raise _UnusableImageError(_BLANK)
    ink = difference @ (direction / length)
    noise = _noise(ink * light) / light
    full = float(np.percentile(ink[ink >= 0.5 * _peak(ink)], 90))
    if full < np.sqrt(3) * _MIN_CONTRAST or full < 5 * np.median(noise):  # from black to white is sqrt(3)
        raise _UnusableImageError(_BLANK)
    floor = np.minimum(3 * noise, 0.8 * full)
    return np.asarray(np.clip((ink - floor) / (full - floor), 0, 1), np.float32)


def _peak(image: FloatArray) -> float:
    """Find the largest value, that of single pixels of a large image not counting."""
    return float(_block_mean(image, max(1, max(image.shape) // 256)).max())


def _light(paper: FloatArray) -> FloatArray:
    """Judge by the paper's brightness how much light fell on each place, (height, width), 1 being typical."""
    brightness = _grey(paper)
    typical = float(np.median(brightness))
    if typical < 0.1 or np.ptp(brightness) < 0.05:  # black paper tells nothing about the light
        return np.ones_like(brightness)
    return np.asarray(np.clip(brightness / typical, 0.25, 3), np.float32)


_BLANK = "blank, or nearly so: nothing on it stands out from its background."


def _noise(ink: FloatArray) -> float:
    """Estimate the paper's standard deviation, from all pixels that are paper rather than ink."""
    paper = np.abs(ink[np.abs(ink) < 0.5 * _peak(ink)])
    return float(1.4826 * np.median(paper)) if paper.size else 0.0


def _paper(colours: FloatArray) -> FloatArray:
    """Find the paper's colour at each pixel: a constant, or a quadratic surface where the light is uneven."""
    border = _border(colours)
    typical = np.median(border, axis=0)
    if (np.abs(border - typical).max(axis=1) <= 1.5 / 255).mean() > 0.6:
        return np.broadcast_to(typical, colours.shape).astype(np.float32)

    step = max(1, max(colours.shape[:2]) // 64)
    x, y = (np.linspace(-1, 1, n) for n in (colours.shape[1], colours.shape[0]))
    surfaces = np.stack(_quadratic(x[::step], y[::step, np.newaxis]), axis=-1).reshape(-1, 6)
    sample = colours[::step, ::step].reshape(-1, 3).astype(np.float64)
    on_border = np.maximum(np.abs(x[::step]), np.abs(y[::step, np.newaxis])).ravel() > 0.9
    coefficients = np.zeros((6, 3))
    coefficients[0] = typical
    used = on_border
    for _ in range(
        12
    ):  # least absolute deviations, by reweighting; the ring of paper grows inwards around the ink
        residual = np.abs(sample - surfaces @ coefficients).max(axis=1)
        weighted = surfaces * (used / np.maximum(residual, 0.01))[:, np.newaxis]
        coefficients = np.linalg.lstsq(weighted.T @ surfaces, weighted.T @ sample, rcond=None)[0]
        residual = np.abs(sample - surfaces @ coefficients).max(axis=1)
        spread = 1.4826 * float(np.median(residual[used]))
        used = residual < max(4 * spread, 0.03)
    channels = [
        sum(c * term for c, term in zip(channel, _quadratic(x, y[:, np.newaxis]), strict=True))
        for channel in coefficients.T
    ]
    return np.stack(channels, axis=-1).astype(np.float32)


def _quadratic(x: NDArray[np.float64], y: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Evaluate the terms of a quadratic in x (along a row) and y (down a column) on their grid."""
    return [term + np.zeros((y.size, x.size)) for term in (1.0, x, y, x * x, x * y, y * y)]


def _cut_out(ink: FloatArray) -> tuple[FloatArray, tuple[slice, slice]]:
    """Leave out specks and strips along the border; find the bounding box of the rest."""
    mask = ink > _INK_THRESHOLD
    factor = max(1, -(-max(ink.shape) // _LABELING_SIDE))
    parts, n_parts = _connected_parts(_block_mean(mask.astype(np.float32), factor) > 0)
    labels = np.kron(parts, np.ones((factor, factor), parts.dtype))[: ink.shape[0], : ink.shape[1]]
    amounts = np.bincount(labels.ravel(), weights=ink.ravel(), minlength=n_parts + 1)
    amounts[0] = 0
    amounts[_strips_at_border(parts, n_parts, factor, ink.shape)] = 0
    if amounts.max() == 0:
        raise _UnusableImageError(_BLANK)
    kept = (amounts >= _SMALLEST_PART * amounts.max())[labels]
    box = _bounding_box(kept & mask)
    if box is None:
        raise _UnusableImageError(_BLANK)
    return np.where(kept, ink, 0).astype(np.float32), box


def _strips_at_border(
    labels: NDArray[np.intp], n_parts: int, factor: int, shape: tuple[int, ...]
) -> NDArray[np.bool_]:
    """Tell which parts look like the edge of a table or of a sheet: thin, along a side of the image.

    labels: of blocks of factor x factor pixels of an image of that shape.
    """
    at_border, extent = [], []
    for places, size in zip(np.indices(labels.shape), shape, strict=True):
        begin, end = np.full(n_parts + 1, size), np.zeros(n_parts + 1, np.intp)
        np.minimum.at(begin, labels, factor * places)
        np.maximum.at(end, labels, np.minimum(factor * (places + 1), size))
        at_border.append((begin == 0) | (end == size))
        extent.append((end - begin) / size)
    return np.asarray(
        (at_border[0] & (extent[0] < 0.15) & (extent[1] > 0.3))
        | (at_border[1] & (extent[1] < 0.15) & (extent[0] > 0.3))
    )


def _connected_parts(mask: NDArray[np.bool_]) -> tuple[NDArray[np.intp], int]:
    """Label the 8-connected parts of a mask 1 to n, 0 being outside: runs of rows, joined by union-find."""
    labels = np.zeros(mask.shape, np.intp)
    parent = [0]
    above: list[tuple[int, int, int]] = []
    for row, line in enumerate(mask):
        edges = np.flatnonzero(np.diff(line, prepend=False, append=False))
        here: list[tuple[int, int, int]] = []
        first = 0
        for start, stop in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
            label = 0
            while first < len(above) and above[first][1] < start:
                first += 1
            for start_above, _, label_above in above[first:]:
                if start_above > stop:
                    break
                root = _root(parent, label_above)
                label = label or root
                parent[max(label, root)] = label = min(label, root)
            if label == 0:
                label = len(parent)
                parent.append(label)
            labels[row, start:stop] = label
            here.append((start, stop, label))
        above = here
    roots = np.array([_root(parent, label) for label in range(len(parent))], np.intp)
    names, compact = np.unique(roots, return_inverse=True)
    return compact.reshape(-1)[labels], len(names) - 1


def _root(parent: list[int], label: int) -> int:
    while parent[label] != label:
        parent[label] = parent[parent[label]]
        label = parent[label]
    return label


def _thickened(digit: FloatArray) -> FloatArray:
    """Widen strokes that would, after scaling, be thinner than MNIST's."""
    stroke = _stroke_width(digit) * _BOX / max(digit.shape)
    if stroke >= _THINNEST_STROKE:
        return digit
    scale = _THICKENING_SIDE / max(digit.shape)
    height, width = (max(1, round(scale * side)) for side in digit.shape)
    large = _resized(digit, height, width)
    large /= max(float(large.max()), float(np.finfo(np.float32).tiny))
    return _dilated(large, (_WANTED_STROKE - stroke) / 2 * _THICKENING_SIDE / _BOX)


def _stroke_width(digit: FloatArray) -> float:
    """Twice the area over the outline's length, in pixels."""
    full = np.pad(digit > 0.5, 1)
    steps = np.count_nonzero(full[1:] != full[:-1]) + np.count_nonzero(full[:, 1:] != full[:, :-1])
    outline = np.pi / 4 * steps  # of a curve in all directions, drawn in steps
    return float(2 * digit.sum() / max(outline, 1.0))


def _dilated(image: FloatArray, radius: float) -> FloatArray:
    """Grey dilation by a disc; the image grows by the radius on all sides."""
    reach = int(np.ceil(radius))
    padded = np.pad(image, 2 * reach)
    height, width = image.shape[0] + 2 * reach, image.shape[1] + 2 * reach
    result = np.zeros((height, width), np.float32)
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            if dy * dy + dx * dx <= radius * radius:
                shifted = padded[reach + dy : reach + dy + height, reach + dx : reach + dx + width]
                np.maximum(result, shifted, out=result)
    return result


def _in_box(digit: FloatArray) -> FloatArray:
    """Scale to 20 pixels along the longer side, the aspect ratio kept, and to full contrast."""
    scale = _BOX / max(digit.shape)
    small = _resized(digit, *(max(1, round(scale * side)) for side in digit.shape))
    strokes = small[small > 0.1 * small.max()]
    return np.asarray(np.clip(small / np.percentile(strokes, 70), 0, 1), np.float32)


def _centred(digit: FloatArray) -> NDArray[np.uint8]:
    """Place the digit in 28 x 28 with its centre of mass in the middle, and all of it inside."""
    offset = np.rint(_SIDE / 2 - _centre_of_mass(digit)).astype(int)
    top, left = (int(np.clip(o, 0, _SIDE - side)) for o, side in zip(offset, digit.shape, strict=True))
    image = np.zeros((_SIDE, _SIDE), np.float32)
    image[top : top + digit.shape[0], left : left + digit.shape[1]] = digit
    return _bytes(image)


def _centre_of_mass(image: FloatArray) -> NDArray[np.float64]:
    """Row and column, pixel i having its centre at i; MNIST's own lie within half a pixel of 14, 14."""
    amount = image.astype(np.float64)
    rows, columns = amount.sum(axis=1), amount.sum(axis=0)
    sums = [rows @ np.arange(len(rows)), columns @ np.arange(len(columns))]
    return np.asarray(sums, np.float64) / float(amount.sum())


def _resized(image: FloatArray, height: int, width: int) -> FloatArray:
    """Scale with Pillow: means over areas to make smaller, cubic to make larger."""
    from PIL import Image

    smaller = height * width <= image.size
    method = Image.Resampling.BOX if smaller else Image.Resampling.BICUBIC
    resized = Image.fromarray(np.ascontiguousarray(image, np.float32)).resize((width, height), method)
    return np.clip(np.asarray(resized, np.float32), 0, None)


def _block_mean(image: FloatArray, factor: int) -> FloatArray:
    """Means over blocks of factor x factor pixels; the last block in each direction may be smaller."""
    if factor == 1:
        return image
    starts = [np.arange(0, side, factor) for side in image.shape]
    sums = np.add.reduceat(np.add.reduceat(image, starts[0], axis=0), starts[1], axis=1)
    rows, columns = (np.minimum(factor, side - s) for side, s in zip(image.shape, starts, strict=True))
    return np.asarray(sums / np.outer(rows, columns), np.float32)


def _bounding_box(mask: NDArray[np.bool_]) -> tuple[slice, slice] | None:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        return None
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _border(image: FloatArray) -> FloatArray:
    """Take the outermost pixels, and some more of a large image; colours stay together."""
    depth = max(1, min(image.shape[:2]) // 50)
    parts = (image[:depth], image[-depth:], image[depth:-depth, :depth], image[depth:-depth, -depth:])
    return np.concatenate([part.reshape(-1, *image.shape[2:]) for part in parts])


def _grey(colours: FloatArray) -> FloatArray:
    """Luma as in ITU-R BT.601."""
    return np.asarray(colours @ np.array([0.299, 0.587, 0.114], np.float32), np.float32)


def _bytes(image: FloatArray) -> NDArray[np.uint8]:
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
