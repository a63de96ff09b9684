"""The one table: sections of lines, as text for a terminal, as Markdown, and as JSON."""

from __future__ import annotations

import textwrap
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

HEADINGS = ["what, and who", "figure", "range", "compared", "must", "aim", "met"]
LEGEND = (
    "Figures are medians over rounds in which all contenders took turns; the range is that of the "
    "rounds. Comparisons are medians of the ratios within a round. Met: the further of the two "
    "targets that was reached."
)


@dataclass
class Check:
    """One comparison that a target exists for (or that is worth knowing: then without targets)."""

    compared: str
    must: str = ""
    aim: str = ""
    met: str = ""


@dataclass
class Line:
    """One contender's figure."""

    who: str
    figure: str = "-"
    spread: str = ""
    checks: list[Check] = field(default_factory=list)
    reason: str | None = None  # why there is no figure
    raw: dict[str, Any] = field(default_factory=dict)


@dataclass
class Section:
    """One benchmark."""

    name: str
    title: str
    lines: list[Line]
    remarks: list[str] = field(default_factory=list)


def judge(
    value: float | None,
    compared: str,
    must: float | None,
    aim: float | None,
    unit: str,
    *,
    more: bool = False,
    aim_text: str | None = None,
) -> Check:
    """Hold a value against its targets; `more`: the larger the better."""
    sign = "≥" if more else "≤"
    must_text = "" if must is None else f"{sign} {must:g}{unit}"
    aim_text = aim_text or ("" if aim is None else f"{sign} {aim:g}{unit}")
    if value is None:
        return Check("-", must_text, aim_text, "-")

    def reached(target: float | None) -> bool:
        return target is not None and (value >= target if more else value <= target)

    met = "aim" if reached(aim) else "must" if reached(must) else "no"
    if must is None and met == "no":
        met = "not yet"  # an aim without a must is missed, not failed
    return Check(compared, must_text, aim_text, met)


def duration(seconds: float | None) -> str:
    """Three digits, in the unit that fits."""
    if seconds is None:
        return "-"
    factor, unit = _unit(seconds)
    return f"{_digits(seconds * factor)} {unit}"


def _unit(seconds: float) -> tuple[float, str]:
    for factor, unit in ((1.0, "s"), (1e3, "ms")):
        if abs(seconds) * factor >= 1.0:
            return factor, unit
    return 1e6, "us"


def _digits(value: float) -> str:
    decimals = 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
    return f"{value:,.{decimals}f}"


def duration_range(values: list[float]) -> str:
    """From the best round to the worst."""
    if len(values) < 2:
        return ""
    low, high = min(values), max(values)
    factor, unit = _unit(high)
    # One unit for both, unless that would round the lower one away.
    shown = _digits(low * factor) if abs(low) * factor >= 0.1 else duration(low)
    return f"{shown} .. {_digits(high * factor)} {unit}"


def _rows(sections: Iterable[Section], notes: list[str]) -> Iterable[list[str]]:
    for section in sections:
        yield [section.title + "".join(_mark(notes, remark) for remark in section.remarks)]
        for line in section.lines:
            mark = _mark(notes, line.reason) if line.reason else ""
            checks = line.checks or [Check("")]
            for index, check in enumerate(checks):
                head = [line.who, line.figure + mark, line.spread] if index == 0 else ["", "", ""]
                yield [*head, check.compared, check.must, check.aim, check.met]


def _mark(notes: list[str], note: str) -> str:
    if note not in notes:
        notes.append(note)
    return f" [{notes.index(note) + 1}]"


def as_text(header: list[tuple[str, str]], sections: list[Section]) -> str:
    """For a terminal."""
    notes: list[str] = []
    rows = list(_rows(sections, notes))
    full = [["  " + row[0], *row[1:]] for row in rows if len(row) > 1]
    widths = [max(map(len, column)) for column in zip(HEADINGS, *full, strict=True)]

    def laid_out(row: list[str]) -> str:
        return "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))

    out = [f"{name + ':':10} {value}" for name, value in header]
    out += ["", laid_out(HEADINGS).rstrip(), "-" * (sum(widths) + 2 * len(widths) - 2)]
    for row in rows:
        if len(row) == 1:
            out += ["", row[0]]
        else:
            out.append(laid_out(["  " + row[0], *row[1:]]).rstrip())
    out += ["", *textwrap.wrap(LEGEND, 100)]
    for number, note in enumerate(notes, 1):
        out += textwrap.wrap(f"[{number}] {note}", 100, subsequent_indent="    ")
    return "\n".join(out).rstrip() + "\n"


def as_markdown(header: list[tuple[str, str]], sections: list[Section]) -> str:
    """A fragment for a page of the documentation."""
    notes: list[str] = []
    out = [f"- {name}: {_plain(value)}" for name, value in header]
    out += ["", _pipes(HEADINGS), _pipes(["---"] * len(HEADINGS))]
    for row in _rows(sections, notes):
        if len(row) == 1:
            row = [f"**{_plain(row[0])}**", *[""] * (len(HEADINGS) - 1)]
        else:
            row = [_plain(cell) for cell in row]
        out.append(_pipes(row))
    out += ["", LEGEND]
    # Backslashes: square brackets would otherwise be taken for links.
    out += [""] + [f"\\[{number}\\] {_plain(note)}  " for number, note in enumerate(notes, 1)]
    return "\n".join(out).rstrip() + "\n"


def _pipes(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _plain(text: str) -> str:
    for character in "\\|[]*_<":
        text = text.replace(character, "\\" + character)
    return text


def as_data(header: list[tuple[str, str]], sections: list[Section]) -> dict[str, Any]:
    """For `--json`: what the table shows, and the figures of each round in seconds and bytes."""
    return {"header": dict(header), "sections": [asdict(section) for section in sections]}
