"""The published schemas: up to date, in agreement with the models, with examples that a person can paste."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import BaseModel
from temporalio.exceptions import ApplicationError

from workers import schema
from workflows.start import read_start, read_topic, read_words

EXAMPLES = schema.PLACE / "examples"
MODELS: dict[str, type[BaseModel]] = {model.__name__: model for model in (*schema.INPUTS, *schema.OUTPUTS)}
TAKEN = {model.__name__ for model in schema.INPUTS}
FILES = sorted(path.name for path in EXAMPLES.glob("*.json"))
WRONG: tuple[Any, ...] = ("text", "", 7, -7, 1.5, True, False, None, [], ["text"], {}, {"text": "text"})
# What no schema can say, as the index admits.
BEYOND = ("stages: ", "is no time zone", "deadline must be later", "condition is not complete")


def model_of(file: str) -> str:
    """`PushSpec.users.json` is an example of PushSpec."""
    return file.split(".")[0]


def example(file: str) -> Any:
    """What the file holds."""
    return json.loads((EXAMPLES / file).read_text())


def validator(name: str) -> Draft202012Validator:
    """Of the schema as it is published."""
    return Draft202012Validator(json.loads((schema.PLACE / f"{name}.json").read_text()))


VALIDATORS = {name: validator(name) for name in MODELS}


def refusal(name: str, value: Any) -> str | None:
    """Why a workflow would refuse it as it comes; None if it would take it."""
    kinds = {kind.spec.__name__: kind for kind in schema.KINDS}
    try:
        if name.startswith("Topic"):
            read_topic(MODELS[name], "topic/x", [value])  # type: ignore[type-var]
        elif name in kinds:
            read_start(kinds[name].spec, "x/", f"x/{value.get('id') or 'x'}", [value])  # type: ignore[type-var]
        else:
            read_words(MODELS[name], value, short="by")  # type: ignore[type-var]
    except ApplicationError as error:
        return error.message
    return None


def test_what_is_written_is_what_the_models_say() -> None:
    """Somebody changed a model and did not run `make schema`."""
    assert schema.stale(schema.PLACE, schema.files()) == []


def test_every_update_of_the_workflows_is_published() -> None:
    """And none that no workflow understands."""
    known = {name for kind in schema.KINDS for name in schema.defined(kind).updates}

    assert known == set(schema.UPDATES)


def test_every_schema_has_an_example() -> None:
    """Of the same name."""
    assert {f"{name}.json" for name in MODELS} <= set(FILES)
    assert {model_of(file) for file in FILES} == set(MODELS)


def test_the_schemas_are_schemas() -> None:
    """Of the dialect that they name."""
    for name in MODELS:
        Draft202012Validator.check_schema(VALIDATORS[name].schema)


def test_every_link_of_the_index_leads_somewhere() -> None:
    """Schemas, examples and pages."""
    links = re.findall(r"\]\(([^)#]+)\)", (schema.PLACE / "README.md").read_text())

    assert len(links) > 30
    assert [link for link in links if not (schema.PLACE / link).exists()] == []


@pytest.mark.parametrize("file", FILES)
def test_examples_are_valid(file: str) -> None:
    """By the schema and by the model; the model keeps every word of them."""
    name, value = model_of(file), example(file)

    VALIDATORS[name].validate(value)
    model = MODELS[name].model_validate_json(json.dumps(value), strict=True)
    kept = model.model_dump(mode="json", exclude_unset=True)
    assert json.loads(json.dumps(kept)).keys() == value.keys()
    assert name not in TAKEN or refusal(name, value) is None


def test_what_a_model_gives_satisfies_its_schema() -> None:
    """Answers as they travel, with every field."""
    for file in FILES:
        if (name := model_of(file)) not in TAKEN:
            model = MODELS[name].model_validate(example(file))
            VALIDATORS[name].validate(model.model_dump(mode="json"))


@pytest.mark.parametrize(
    "condition",
    [
        "'a' in topics",
        "  !!('a' in topics)&&( 'b' in topics||!('/topics/c' in topics))  ",
        " || ".join(f"'t{n}' in topics" for n in range(5)),
        " || ".join(f"'t{n}' in topics" for n in range(6)),
        *("", "a", "'a'", "'a' in", "'a' in topics &&", "&& 'a' in topics", "'a b' in topics", "()"),
        *("'a' in topics 'b' in topics", "'a' in topicsx", "'a' in topics & 'b' in topics"),
    ],
)
def test_schema_and_workflow_agree_on_conditions(condition: str) -> None:
    """But for brackets, which no pattern can count."""
    value = {"app": "demo", "condition": condition, "message": {"texts": {"default": {"title": "x"}}}}

    assert (refusal("TopicSend", value) is None) == VALIDATORS["TopicSend"].is_valid(value)


# ── mutations ─────────────────────────────────────────────────────────────────────────────────────────────


def paths(value: Any, here: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every place in it but the root."""
    if here:
        yield here
    if isinstance(value, dict):
        for key in value:
            yield from paths(value[key], (*here, key))
    elif isinstance(value, list):
        for index in range(len(value)):
            yield from paths(value[index], (*here, index))


def holder(value: Any, path: tuple[str | int, ...]) -> Any:
    """What holds the place."""
    for key in path[:-1]:
        value = value[key]
    return value


@st.composite
def mutated(draw: st.DrawFn) -> tuple[str, Any]:
    """An example of an input with something missing, extra, or of another type."""
    file = draw(st.sampled_from([file for file in FILES if model_of(file) in TAKEN]))
    value = copy.deepcopy(example(file))
    for _ in range(draw(st.integers(1, 2))):
        places = list(paths(value))
        if not places:
            break
        path = draw(st.sampled_from(places))
        what = draw(st.sampled_from(["missing", "extra", "wrong"]))
        inside = holder(value, path)
        if what == "missing":
            del inside[path[-1]]
        elif what == "wrong":
            inside[path[-1]] = copy.deepcopy(draw(st.sampled_from(WRONG)))
        elif isinstance(inside, dict):
            inside["nonsense"] = copy.deepcopy(draw(st.sampled_from(WRONG)))
    return model_of(file), value


@settings(max_examples=500, deadline=None)
@given(mutated())
def test_schema_and_workflow_agree(case: tuple[str, Any]) -> None:
    """What one takes the other takes, whatever is missing, extra or of the wrong type."""
    name, value = case
    if name in ("PushSpec", "CampaignSpec") and not set(value) - {"id"}:
        return  # the start of a push that the ledger knows
    why = refusal(name, value)
    if why is not None and any(words in why for words in BEYOND):
        return

    assert (why is None) == VALIDATORS[name].is_valid(value), why


def test_stale_files_are_noticed(tmp_path: Path) -> None:
    """Changed, missing and left over."""
    for name, text in {"a.json": "old", "left.json": "x", "same.json": "s"}.items():
        (tmp_path / name).write_text(text)

    assert schema.stale(tmp_path, {"a.json": "new", "b.json": "b", "same.json": "s"}) == [
        "a.json", "b.json", "left.json",
    ]  # fmt: skip
