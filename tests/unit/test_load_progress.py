"""How far a load is, as it is told: sparingly, and true to each stage."""

from __future__ import annotations

from moshid.model.load_progress import Advance, sparingly


def test_each_stage_is_told_from_its_beginning_to_its_end() -> None:
    """A quantised copy that is damaged is read in part; then all of the source is quantised."""
    told: list[tuple[str, float]] = []
    tell = sparingly(lambda advance: told.append((advance.stage, advance.fraction)))
    for stage, until in (("reading", 900), ("quantising", 1000)):
        for done in range(1, until + 1):
            tell(Advance(stage, done, 1000))
    reading, quantising = (
        [f for s, f in told if s == stage] for stage in ("reading", "quantising")
    )
    assert reading[-1] > 0.87
    assert (quantising[0], quantising[-1]) == (0.001, 1.0)
    assert 45 <= len(quantising) <= 53
    assert quantising == sorted(quantising)


def test_a_stage_that_begins_anew_is_told_anew() -> None:
    told: list[float] = []
    tell = sparingly(lambda advance: told.append(advance.fraction))
    for done in (50, 51, 90, 5, 6, 50, 100):
        tell(Advance("reading", done, 100))
    assert told == [0.5, 0.9, 0.05, 0.5, 1.0]
