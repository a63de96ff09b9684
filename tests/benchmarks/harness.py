"""Rounds: contenders take turns, so that drift hits all of them alike; and ratios of them."""

from __future__ import annotations

import statistics
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .contenders import BY_KEY
from .players import OutOfPlayError, Player

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Figures = dict[str, Any]
Ask = tuple[str, dict[str, Any]]  # a round's name and its parameters


@dataclass
class Outcome:
    """What the contenders of one row did, round by round."""

    rounds: list[dict[str, Figures]] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)

    def of(self, key: str) -> list[Figures]:
        """All figures of one contender, round by round."""
        return [figures[key] for figures in self.rounds if key in figures]

    def values(self, key: str, name: str) -> list[float]:
        """One figure of one contender over the rounds."""
        return [figures[name] for figures in self.of(key)]

    def median(self, key: str, name: str) -> float | None:
        """None where there is no figure."""
        values = self.values(key, name)
        return statistics.median(values) if values else None

    def ratio(self, upper: str, lower: str, name: str) -> float | None:
        """Median of the ratios of figures that were taken in the same round."""
        ratios = [
            figures[upper][name] / figures[lower][name]
            for figures in self.rounds
            if upper in figures and lower in figures
        ]
        return statistics.median(ratios) if ratios else None


class Harness:
    """Keeps the contenders' processes, the clock and the size of the run."""

    def __init__(self, quick: bool, node: list[str] | str, limit: float) -> None:
        self.quick = quick
        self._node = node  # the command, or the reason for there being none
        self._players: dict[str, Player] = {}
        self._deadline = time.monotonic() + limit

    def pick(self, full: Any, quick: Any) -> Any:
        """The size of something in a full and in a quick run."""
        return quick if self.quick else full

    @property
    def is_late(self) -> bool:
        """The run has had its time."""
        return time.monotonic() > self._deadline

    def say(self, text: str) -> None:
        """Progress, where it is not in the way of the table."""
        print(text, file=sys.stderr, flush=True)

    def compete(
        self,
        keys: Iterable[str],
        rounds: int,
        ask: Ask | Callable[[str], Ask],
        *,
        fresh: bool = False,
        seconds: float = 15.0,
        budget: float = 90.0,
    ) -> Outcome:
        """`ask`: what of everybody, or of whom; `fresh`: a new process for each round."""
        outcome, playing = Outcome(), list(keys)
        end = min(time.monotonic() + budget, self._deadline)
        if not fresh:
            for key in playing:  # all at once: they import side by side
                self._try_to_start(key, outcome)
        for turn in range(rounds):
            if time.monotonic() > end:
                break
            figures: dict[str, Figures] = {}
            # Nobody always comes right after the same neighbour's load, or first.
            for key in playing[turn % len(playing) :] + playing[: turn % len(playing)]:
                if key in outcome.reasons:
                    continue
                if time.monotonic() > end + seconds:
                    outcome.reasons[key] = "out of time"
                    continue
                what = ask(key) if callable(ask) else ask
                try:
                    figures[key] = self._ask(key, what, fresh, seconds)
                except OutOfPlayError as error:
                    outcome.reasons[key] = str(error)
                    self._close(key)
            outcome.rounds.append(figures)
        if not outcome.rounds:
            outcome.reasons |= dict.fromkeys(playing, "out of time")
        return outcome

    def _player(self, key: str) -> Player:
        if key not in self._players:
            contender = BY_KEY[key]
            if contender.node and isinstance(self._node, str):
                raise OutOfPlayError(self._node)
            node = self._node if isinstance(self._node, list) else None
            self._players[key] = Player(contender, node)
        return self._players[key]

    def _try_to_start(self, key: str, outcome: Outcome) -> None:
        try:
            self._player(key)
        except OutOfPlayError as error:
            outcome.reasons[key] = str(error)

    def _ask(self, key: str, ask: Ask, fresh: bool, seconds: float) -> Figures:
        if fresh:
            self._close(key)
        try:
            return self._player(key).ask(*ask, seconds)
        finally:
            if fresh:
                self._close(key)

    def _close(self, key: str) -> None:
        player = self._players.pop(key, None)
        if player is not None:
            player.close()

    def close(self) -> None:
        """End all contenders."""
        for key in list(self._players):
            self._close(key)
