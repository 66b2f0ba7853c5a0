"""The start contract as JSON Schema, for callers in any language: `python -m workers.schema`.

Made from the models that the workflows themselves validate with, so it says what they do. Rules that stand
in a model's own code (exactly one of these, a moment needs an offset) are added here; a test holds both
together. `--check` writes nothing and fails when docs/schema is not what the models say.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel
from temporalio import workflow

from clarion import names
from clarion.model import command
from clarion.model.campaign import CampaignProgress
from clarion.model.spec import CampaignSpec, PushSpec
from clarion.model.topic import TopicChange, TopicChanged, TopicSend, TopicSent
from workflows.campaign import CampaignResult, CampaignWorkflow
from workflows.push import PushWorkflow
from workflows.shown import PushResult
from workflows.topic import TopicChangeWorkflow, TopicSendWorkflow

PLACE: Final = Path(__file__).resolve().parents[1] / "docs" / "schema"
DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


@dataclass(frozen=True)
class Kind:
    """A workflow type that others start. `progress`: what its query of that name answers, if it has one."""

    definition: type
    name: str
    id_shape: str
    spec: type[BaseModel]
    result: type[BaseModel]
    progress: type[BaseModel] | None = None


@dataclass(frozen=True)
class Update:
    """An operator's word. `short`: the field that a bare value, without an object around it, is taken for."""

    input: type[BaseModel]
    short: str


KINDS: Final = (
    Kind(
        CampaignWorkflow, names.CAMPAIGN_WORKFLOW, names.campaign_workflow_id("{id}"), CampaignSpec,
        CampaignResult, CampaignProgress,
    ),
    Kind(
        PushWorkflow, names.PUSH_WORKFLOW, names.push_workflow_id("{id}"), PushSpec, PushResult,
        command.PushProgress,
    ),
    Kind(
        TopicSendWorkflow, names.TOPIC_SEND_WORKFLOW, names.topic_workflow_id("{id}"), TopicSend, TopicSent,
    ),
    Kind(
        TopicChangeWorkflow, names.TOPIC_CHANGE_WORKFLOW, names.topic_workflow_id("{id}"), TopicChange,
        TopicChanged,
    ),
)  # fmt: skip

UPDATES: Final[dict[str, Update]] = {
    "pause": Update(command.PauseInput, "reason"),
    "resume": Update(command.ResumeInput, "by"),
    "cancel": Update(command.CancelInput, "mode"),
    "set_pace": Update(command.SetPaceInput, "pace"),
    "edit_message": Update(command.EditMessageInput, "content"),
    "reschedule": Update(command.RescheduleInput, "send_at"),
    "extend_deadline": Update(command.ExtendDeadlineInput, "deadline"),
    "approve": Update(command.ApproveInput, "content"),
    "reject": Update(command.RejectInput, "reason"),
    "unblock": Update(command.UnblockInput, "lane"),
}
INPUTS: Final[tuple[type[BaseModel], ...]] = (
    *(kind.spec for kind in KINDS),
    *(update.input for update in UPDATES.values()),
)
OUTPUTS: Final[tuple[type[BaseModel], ...]] = (
    *(kind.result for kind in KINDS),
    *(kind.progress for kind in KINDS if kind.progress is not None),
    command.CommandAnswer,
    command.UnblockAnswer,
)

# ── rules that the models have in their own code ──────────────────────────────────────────────────────────

NAIVE: Final = r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?$"
MOMENT: Final = NAIVE.removesuffix("$") + r"(Z|[+-]\d{2}:\d{2})$"
LANGUAGE: Final = r"^(default|[A-Za-z]{2,3}([-_][A-Za-z]{4})?([-_]([A-Za-z]{2}|[0-9]{3}))?)$"


def given(name: str, **more: Any) -> dict[str, Any]:
    """The property is there, and is not null."""
    return {"required": [name], "properties": {name: {"not": {"type": "null"}, **more}}}


def offset_or_zone(name: str) -> dict[str, Any]:
    """A moment with an offset, or local time with a zone's name beside it."""

    def moment(pattern: str) -> dict[str, Any]:
        return {"properties": {name: {"type": "string", "pattern": pattern}}}

    return {"if": given("zone"), "then": moment(NAIVE), "else": moment(MOMENT)}


CONTENT_ONCE: Final = {"oneOf": [given("message"), given("content")]}
TOPIC: Final = {"pattern": r"^(/topics/)?[a-zA-Z0-9\-_.~%]{1,900}$"}
IN_TOPICS: Final = r"'(/topics/)?[a-zA-Z0-9\-_.~%]{1,900}'\s+in\s+topics\b"
CONDITION: Final = {"pattern": rf"^\s*[(!\s]*{IN_TOPICS}[)\s]*((&&|\|\|)[(!\s]*{IN_TOPICS}[)\s]*){{0,4}}$"}
RULES: Final[dict[str, dict[str, Any]]] = {
    "Audience": {
        "oneOf": [
            given("everybody", const=True),
            given("users", minItems=1),
            given("user_list"),
            given("where"),
            given("retry"),
        ],
        "not": {"allOf": [given("retry"), given("slice")]},
    },
    "Message": {
        "properties": {
            "texts": {
                "propertyNames": {"pattern": LANGUAGE},
                "if": {"minProperties": 1},
                "then": {"required": ["default"]},
            },
            "collapse": {"minLength": 1, "maxLength": 64},
        }
    },
    "CampaignSpec": CONTENT_ONCE,
    "PushSpec": CONTENT_ONCE,
    "EditMessageInput": CONTENT_ONCE,
    "Then": {"anyOf": [given("wait"), given("approval")]},
    "Stage": {"properties": {"name": {"not": {"pattern": "^r[0-9]+$"}}}},
    "TopicSend": CONTENT_ONCE
    | {"properties": {"topic": TOPIC, "condition": CONDITION}, "if": given("topic")}
    | {"then": {"not": given("condition")}, "else": given("condition")},
    "TopicChange": {"properties": {"topic": TOPIC}},
    "RescheduleInput": offset_or_zone("send_at"),
    "ExtendDeadlineInput": offset_or_zone("deadline"),
}
ZONED: Final = ("RescheduleInput", "ExtendDeadlineInput")  # their moments have a rule of their own


def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """The schema of one model, complete in itself."""
    taken = model in INPUTS
    schema: dict[str, Any] = model.model_json_schema(mode="validation" if taken else "serialization")
    parts = schema.pop("$defs", {})
    if taken:
        for name, part in {model.__name__: schema, **parts}.items():
            _add_rules(name, part)
    head: dict[str, Any] = {"$schema": DIALECT, "$id": f"urn:clarion:schema:{model.__name__}"}
    whole: dict[str, Any] = head | _tidy(schema)
    return whole | ({"$defs": _tidy(parts, names_follow=True)} if parts else {})


def _add_rules(name: str, schema: dict[str, Any]) -> None:
    if name not in ZONED:
        for part in _dicts(schema):
            if part.get("format") == "date-time":
                part["pattern"] = MOMENT
    if name in RULES:
        schema["allOf"] = [*schema.get("allOf", []), RULES[name]]


def _dicts(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _dicts(inner)


def _tidy(value: Any, *, names_follow: bool = False) -> Any:
    """Without the titles that pydantic makes of field names, and with prose on one line."""
    if isinstance(value, list):
        return [_tidy(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    return {
        key: re.sub(r"\s+", " ", inner)
        if key == "description" and isinstance(inner, str)
        else _tidy(inner, names_follow=key in ("properties", "$defs"))
        for key, inner in value.items()
        if names_follow or key != "title" or "properties" in value
    }


# ── what is written ───────────────────────────────────────────────────────────────────────────────────────


def files() -> dict[str, str]:
    """Every file below docs/schema that is generated, with its text."""
    texts = {
        f"{model.__name__}.json": json.dumps(schema_of(model), indent=2, ensure_ascii=False) + "\n"
        for model in (*INPUTS, *OUTPUTS)
    }
    return texts | {"README.md": readme()}


def defined(kind: Kind) -> workflow._Definition:
    """What the workflow itself says that it understands."""
    return workflow._Definition.must_from_class(kind.definition)


def readme() -> str:
    """The index."""
    return "\n\n".join([*_starts(), *_words(), *_signals_and_queries(), CLOSING]) + "\n"


def _starts() -> list[str]:
    rows = ["| workflow type | task queue | workflow id | input | result |", "|---|---|---|---|---|"]
    rows += [
        f"| `{kind.name}` | `{names.CONTROL_QUEUE}` | `{kind.id_shape}` | {_link(kind.spec)} | "
        f"{_link(kind.result)} |"
        for kind in KINDS
    ]
    return [
        OPENING,
        "## Starts",
        "\n".join(rows),
        f"`{{id}}` matches `{names.ID_PATTERN.pattern}`. " + STARTS,
    ]


def _words() -> list[str]:
    rows = ["| update | understood by | input | a bare value means | what it does |", "|---|---|---|---|---|"]
    for name, update in UPDATES.items():
        kinds = [kind for kind in KINDS if name in defined(kind).updates]
        words = (defined(kinds[0]).updates[name].description or "").replace("|", "\\|")
        by = ", ".join(f"`{kind.name}`" for kind in kinds)
        rows.append(f"| `{name}` | {by} | {_link(update.input)} | `{update.short}` | {words} |")
    return ["## Updates", WORDS, "\n".join(rows)]


def _signals_and_queries() -> list[str]:
    signals = ["| signal | understood by | what it does |", "|---|---|---|"]
    known: dict[tuple[str, str], list[str]] = {}
    for kind in KINDS:
        for name, one in defined(kind).signals.items():
            known.setdefault((name or "", one.description or ""), []).append(f"`{kind.name}`")
    signals += [f"| `{name}` | {', '.join(by)} | {told} |" for (name, told), by in sorted(known.items())]
    queries = ["| query | of | answer | what it says |", "|---|---|---|---|"]
    for kind in KINDS:
        if kind.progress is None:
            continue
        for name, query in defined(kind).queries.items():
            queries.append(f"| `{name}` | `{kind.name}` | {_link(kind.progress)} | {query.description} |")
    return ["## Signals", SIGNALS, "\n".join(signals), "## Queries", "\n".join(queries)]


def _link(model: type[BaseModel]) -> str:
    name = model.__name__
    return f"[{name}]({name}.json), [example](examples/{name}.json)"


OPENING: Final = """# The contract: what workflows take and give, as JSON Schema

*Generated by `make schema` from the models that the workflows validate with; a test fails when it is out
of date.*

One JSON object is all that a start, an update or an answer is, whatever sent it: the Python client, another
SDK, the `temporal` command line, Temporal's HTTP API, or the form in its UI. [Starting and
steering](../starting.md) shows each of them."""
STARTS: Final = """The `id` in the input is left out, or is the same
as in the workflow id. The same id with the same input is the same push, for ever: a start whose answer was
lost is simply repeated, and is sent once. With other input it is refused. An input of nothing but
`{"id": …}` starts the workflow again of a push or campaign that the ledger knows, for instance after it was
terminated. (A word to an [FCM topic](../fcm-topics.md) has its id in the workflow id only.)

A message in the input is 8 KB at most, a list of users 100; then both stand in Temporal's history. The Python
client and the `clarion` command line store content and lists first and send their references. More examples:
[a push to some users](examples/PushSpec.users.json), [a campaign in stages, with
approval](examples/CampaignSpec.stages.json)."""
WORDS: Final = """Each is answered with a [CommandAnswer](CommandAnswer.json)
([example](examples/CommandAnswer.json)) after its commit, and obeyed within two seconds. Every input may
carry `by`, `command_id` (the same one again acts once) and `if_version`. What does not validate is refused
with a reason, and leaves nothing in the history. As people type: nothing at all, or a bare value, is
understood too."""
SIGNALS: Final = """Without arguments and without an answer, for the raw UI and for batch operations."""
CLOSING: Final = """## What a schema cannot say

The store's answer (no such app, a content that is not there, an id with other content), sizes in bytes (8 KB
of message, 64 of `collapse`, 1,500 of tags), a time zone's name, shares of stages that are not 100 %
together, brackets of a topic's condition that do not match. These too are refused with a reason: a start
ends *Failed*, its failure of type `BadSpec`, `BadWorkflowId`, `NotFound` or `AlreadyExists`; an update is
rejected, with `BadInput`, `BadSpec`, `NotFound` or `CommandRefused`."""


def stale(place: Path, texts: Mapping[str, str]) -> list[str]:
    """Files that are not what they should be, missing ones and left-overs among them."""
    written = {path.name: path.read_text() for path in place.iterdir() if path.is_file()}
    return sorted(name for name in written.keys() | texts.keys() if written.get(name) != texts.get(name))


def main() -> None:
    """Write docs/schema, or check it."""
    parser = argparse.ArgumentParser(prog="python -m workers.schema", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when it is out of date")
    checking = parser.parse_args().check
    texts = files()
    out = stale(PLACE, texts)
    if checking and out:
        sys.exit(f"docs/schema is out of date: {', '.join(out)}. Run `make schema`")
    for name in out:
        path = PLACE / name
        path.write_text(texts[name]) if name in texts else path.unlink()
        print(path.relative_to(PLACE.parents[1]))


if __name__ == "__main__":
    main()
