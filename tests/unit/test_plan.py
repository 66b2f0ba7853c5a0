"""How an audience is cut into ranges, and how outcomes are packed."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clarion import limits
from clarion.model.ledger import Code
from clarion.model.message import ApnsOptions, Kind, Message, PushType
from clarion.store import sql
from clarion.store.ledger import Outcomes
from clarion.store.push import cut, kind_of

NOW = datetime(2031, 1, 2, tzinfo=UTC)


@given(
    lo=st.integers(0, 10**12),
    width=st.integers(1, 10**10),
    rows=st.integers(0, 3 * 10**8),
)
def test_ranges_cover_without_overlap(lo: int, width: int, rows: int) -> None:
    """Whatever the span and the estimate: every user number is in exactly one range, and none is empty."""
    spans = cut(lo, lo + width, rows)

    assert spans[0][0] == lo
    assert spans[-1][1] == lo + width
    assert all(before[1] == after[0] for before, after in pairwise(spans))
    assert all(start < end for start, end in spans)


@given(width=st.integers(10**9, 10**10), rows=st.integers(limits.RANGE_FIRST + 1, 3 * 10**8))
def test_ranges_are_as_large_as_they_should_be(width: int, rows: int) -> None:
    """The first is small so that sending starts at once; the next double, up to a million rows."""
    sizes = [(end - start) * rows / width for start, end in cut(0, width, rows)]
    wanted = limits.RANGE_FIRST

    for size in sizes[:-1]:
        assert size == pytest.approx(wanted, rel=0.01)
        wanted = min(2 * wanted, limits.RANGE_MAX)
    assert 0 < sizes[-1] <= wanted * 1.01


def test_a_small_audience_is_one_range() -> None:
    """What fits the first range is not cut; nor is an app without users."""
    assert cut(5, 900, 1_790) == [(5, 900)]
    assert cut(0, 1, 0) == [(0, 1)]


@given(
    st.dictionaries(
        st.integers(0, limits.BATCH_MAX - 1),
        st.tuples(st.sampled_from(list(Code)), st.integers(0, 900), st.sampled_from((0.0, 1.5))),
        max_size=60,
    )
)
def test_packed_outcomes_say_what_was_added(words: dict[int, tuple[Code, int, float]]) -> None:
    """The arrays read as STEP reads them give back every code, reason and delay."""
    outcomes = Outcomes(NOW)
    for seq, (code, reason, delay) in words.items():
        if code is Code.ACCEPTED:
            outcomes.accept(seq)
        else:
            outcomes.add(seq, code, reason, delay)

    seqs, first, codes, reasons, retries, seconds, _, _ = outcomes.pack()

    assert len(outcomes) == len(words)
    assert sorted(seqs) == sorted(words)
    for seq, (code, reason, delay) in words.items():
        assert codes[seq - first] == code
        if code is not Code.ACCEPTED:
            assert (reasons[seq - first] if seq - first < len(reasons) else 0) == reason
            assert dict(zip(retries, seconds, strict=True)).get(seq, 0.0) == delay


def test_a_dead_address_is_known_since_the_providers_time_or_the_take() -> None:
    """The provider's own time counts; without one, the time of the attempt's TAKE."""
    outcomes = Outcomes(NOW)
    outcomes.add(3, Code.REJECTED, 200)
    outcomes.retire(3, 1_700_000_000.5)
    outcomes.add(4, Code.REJECTED, 200)
    outcomes.retire(4)

    *_, dead, since = outcomes.pack()

    assert dead == [3, 4]
    assert since == [datetime.fromtimestamp(1_700_000_000.5, UTC), NOW]


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        (ApnsOptions(), Kind.ALERT),
        (ApnsOptions(push_type=PushType.BACKGROUND), Kind.ALERT),
        (ApnsOptions(push_type=PushType.VOIP), Kind.VOIP),
        (ApnsOptions(push_type=PushType.LIVE_ACTIVITY, event="start"), Kind.LIVE_ACTIVITY_START),
        (ApnsOptions(push_type=PushType.LIVE_ACTIVITY, event="update"), Kind.LIVE_ACTIVITY),
        (ApnsOptions(push_type=PushType.MDM), Kind.MDM),
    ],
)
def test_a_message_addresses_one_kind_of_registration(options: ApnsOptions, kind: Kind) -> None:
    """Apple's push type decides which of a device's addresses is meant."""
    assert kind_of(Message(apns=options)) is kind


def test_statements_are_named_and_stripped_of_comments() -> None:
    """Comment lines stay in the file; the name goes in front, where pg_stat_activity shows it."""
    text = "-- A file.\n\n-- name: one\n-- Says why.\nselect 1 -- here\n;\n-- name: two\nselect 2\n"
    statements = sql.parse(text, source="file")

    assert statements == {"one": "/* file.one */ select 1 -- here\n", "two": "/* file.two */ select 2"}
    assert statements.two is statements["two"]
    with pytest.raises(AttributeError, match="three"):
        _ = statements.three


@pytest.mark.parametrize(
    "text", ["select 1\n-- name: a\nselect 2", "-- name: a\nselect 1\n-- name: a\nselect 2"]
)
def test_a_muddled_file_is_refused(text: str) -> None:
    """SQL before the first name, or a name given twice, is a mistake of ours and found at import."""
    with pytest.raises(ValueError, match=r"file\.sql"):
        sql.parse(text, source="file")
