"""What the services compute: plain functions of plain values, which workers import by name."""

import csv
import io
import math
import random
import statistics
import warnings
from collections import Counter

from PIL import Image, ImageOps

# Above it Pillow warns when an image is opened, which is before its pixels are: see `thumbnail`.
Image.MAX_IMAGE_PIXELS = 25_000_000
IMAGE_FORMATS = ("JPEG", "PNG", "WEBP")


class BadInput(ValueError):
    """The upload cannot be used; the message is for whoever sent it."""


def table_statistics(data):
    """Of a CSV with a header: what is in each column."""
    rows = csv.reader(io.StringIO(decoded(data), newline=""), strict=True)
    try:
        header = next(rows, [])
        columns = {name: [] for name in header}
        if not header or len(columns) < len(header):
            raise BadInput("the first line must name the columns, each by a name of its own")
        for row in rows:
            if row and len(row) != len(header):
                raise BadInput(
                    f"line {rows.line_num} has {len(row)} fields, the header {len(header)}"
                )
            for cells, cell in zip(columns.values(), row, strict=False):  # a blank line has none
                cells.append(cell.strip())
        return {name: column_statistics(cells) for name, cells in columns.items()}
    except csv.Error as error:
        raise BadInput(f"line {rows.line_num}: {error}") from None
    except OverflowError:
        raise BadInput("the numbers are too large") from None


def column_statistics(cells):
    filled = [cell for cell in cells if cell]
    found = {"filled": len(filled), "empty": len(cells) - len(filled)}
    try:
        numbers = [float(cell) for cell in filled]
    except ValueError:
        numbers = []
    if not numbers or not all(map(math.isfinite, numbers)):
        counts = Counter(filled)
        return {**found, "distinct": len(counts), "most common": counts.most_common(3)}
    return {
        **found,
        "min": min(numbers),
        "mean": statistics.fmean(numbers),
        "median": statistics.median(numbers),
        "max": max(numbers),
        "deviation": statistics.pstdev(numbers),
    }


def text_statistics(data):
    text = decoded(data)
    words = [word.strip(".,:;!?()\"'").casefold() for word in text.split()]
    words = [word for word in words if word]
    counts = Counter(words)
    return {
        "lines": len(text.splitlines()),
        "characters": len(text),
        "words": len(words),
        "distinct words": len(counts),
        "mean length": statistics.fmean(map(len, words)) if words else 0.0,
        "most common": counts.most_common(10),
    }


def decoded(data):
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"not UTF-8: byte {error.start} is {data[error.start]:#04x}") from None


def thumbnail(data, size):
    """A PNG of at most ``size`` pixels each way, of the image in ``data``."""
    try:
        with warnings.catch_warnings():
            # A small file may unpack to gigabytes. Pillow refuses an image only from twice the
            # limit on, and warns before that.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=IMAGE_FORMATS)
        with image:
            image.thumbnail((size, size))
            upright = ImageOps.exif_transpose(image)
            made = io.BytesIO()
            upright.convert("RGBA" if upright.has_transparency_data else "RGB").save(made, "PNG")
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        limit = Image.MAX_IMAGE_PIXELS // 1_000_000
        raise BadInput(f"the image has more than {limit} million pixels") from None
    except (OSError, SyntaxError, ValueError):  # what Pillow raises for broken files
        raise BadInput(
            f"not an image, or a broken one; wanted: {', '.join(IMAGE_FORMATS)}"
        ) from None
    return made.getvalue()


def report(days, seed):
    """The sales of a simulated shop as lines of CSV, each made when it is asked for."""
    chance = random.Random(seed)
    yield "day,orders,revenue,median order\n"
    for day in range(1, days + 1):
        orders = [chance.lognormvariate(3, 1) for _ in range(chance.randint(50, 150))]
        yield f"{day},{len(orders)},{sum(orders):.2f},{statistics.median(orders):.2f}\n"


# By the type of the upload.
STATISTICS = {"text/csv": table_statistics, "text/plain": text_statistics}
