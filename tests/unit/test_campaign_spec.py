"""A campaign's spec: approval, stages, and the slices that the stages cut."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from clarion.model.audience import MILLIONTHS, Audience
from clarion.model.spec import CampaignSpec

MESSAGE = {"texts": {"default": {"title": "Hello"}}}


def spec(**more: Any) -> CampaignSpec:
    """A campaign to everybody."""
    return CampaignSpec.model_validate(
        {"app": "demo", "message": MESSAGE, "audience": {"everybody": True}, **more}
    )


@st.composite
def shares(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Stages whose shares are 100, or less with a rest; in steps of a ten-thousandth of a percent."""
    cuts = draw(st.lists(st.integers(1, MILLIONTHS - 1), min_size=0, max_size=8, unique=True))
    edges = [0, *sorted(cuts), MILLIONTHS]
    stages: list[dict[str, Any]] = [
        {"name": f"s{n}", "share": (end - start) / 10_000} for n, (start, end) in enumerate(pairwise(edges))
    ]
    if len(stages) > 1 and draw(st.booleans()):
        del stages[-1]["share"]
    return stages


@given(stages=shares(), places=st.lists(st.integers(0, MILLIONTHS - 1), min_size=1, max_size=200))
def test_every_place_is_in_exactly_one_stage(stages: list[dict[str, Any]], places: list[int]) -> None:
    """Slices do not overlap and leave nothing out, for any shares, wherever a user falls."""
    slices = spec(stages=stages).slices()

    assert [start for start, _ in slices] == [0, *(end for _, end in slices[:-1])]
    assert slices[-1][1] == MILLIONTHS
    for place in places:
        assert sum(start <= place < end for start, end in slices) == 1


@given(share=st.integers(1, MILLIONTHS - 1))
def test_a_share_is_what_was_said(share: int) -> None:
    """No rounding: a slice is as wide as its percentage, to a ten-thousandth of a percent."""
    first, _ = spec(stages=[{"name": "a", "share": share / 10_000}, {"name": "b"}]).slices()

    assert first == (0, share)


def test_without_stages_it_is_one_push_of_its_own_name() -> None:
    """The push has the campaign's id and no slice, and says nothing of approval."""
    push = spec(id="spring", approval={"within": "1h"}, title="Spring").push("spring")

    assert (push.id, push.campaign, push.audience, push.title) == (
        "spring",
        "spring",
        Audience(everybody=True),
        "Spring",
    )


def test_a_stage_is_a_push_with_a_slice() -> None:
    """Its id, title and slice are the stage's; the salt is the campaign's id."""
    staged = spec(title="Spring", stages=[{"name": "pilot", "share": 5}, {"name": "rest"}])

    pilot, rest = staged.push("spring", 0), staged.push("spring", 1)

    assert (pilot.id, pilot.title) == ("spring.pilot", "Spring (pilot)")
    assert pilot.audience.slice is not None
    assert rest.audience.slice is not None
    assert pilot.audience.slice.model_dump() == {"of": "spring", "start": 0, "end": 50_000}
    assert rest.audience.slice.model_dump() == {"of": "spring", "start": 50_000, "end": MILLIONTHS}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"stages": [{"name": "a", "share": 5}, {"name": "b", "share": 5}]}, "10 % together"),
        ({"stages": [{"name": "a", "share": 60}, {"name": "b", "share": 60}]}, "120 % together"),
        ({"stages": [{"name": "a", "share": 100}, {"name": "rest"}]}, "100 % together"),
        ({"stages": [{"name": "rest"}, {"name": "b", "share": 5}]}, "only the last one may have no share"),
        ({"stages": [{"name": "a", "share": 5}, {"name": "a"}]}, "two have one name"),
        ({"stages": [{"name": "a", "share": 100, "then": {"wait": "1m"}}]}, "nothing comes after"),
        ({"stages": [{"name": "a", "share": 5, "then": {}}, {"name": "b"}]}, "give wait, approval or both"),
        ({"stages": [{"name": "a", "share": 5, "then": {"wait": "soon"}}, {"name": "b"}]}, "then.wait"),
        ({"stages": [{"name": "a", "share": 0}, {"name": "b"}]}, "share"),
        ({"stages": [{"name": "a", "share": 0.00001}, {"name": "b"}]}, "four decimals"),
        ({"stages": [{"name": "a b", "share": 5}, {"name": "b"}]}, "name"),
        ({"stages": [{"name": "r1", "share": 5}, {"name": "b"}]}, "retries"),
        ({"stages": [{"name": f"s{n}", "share": 4} for n in range(25)]}, "at most 20"),
        (
            {
                "stages": [{"name": "a", "share": 5}, {"name": "b"}],
                "audience": {"everybody": True, "slice": {"of": "x", "end": 5}},
            },
            "no slice",
        ),
        ({"audience": {"retry": {"push": "p", "states": ["dead"]}, "slice": {"of": "x"}}}, "no slice"),
        ({"audience": {"everybody": True, "slice": {"of": "x", "start": 7, "end": 7}}}, "less than end"),
        ({"approval": {"within": 30}}, "approval.within"),
        ({"approval": {"required": False}}, "approval.required"),
        ({"approval": {"until": "2027-01-01T09:00:00"}}, "approval.until"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_makes_no_sense_is_refused(more: dict[str, Any], said: str) -> None:
    """Shares that are not the whole, names twice, waits nobody can read: said where, and what to do."""
    with pytest.raises(ValidationError) as refused:
        spec(**more)

    words = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in refused.value.errors())
    assert said in words


def test_new_fields_change_no_digest_of_a_spec_without_them() -> None:
    """A start of an earlier release and one of this are the same start."""
    assert set(spec(id="a").canonical()) == {"id", "app", "content", "audience"}
    assert spec(stages=[{"name": "all", "share": 100}]).digest() != spec().digest()
