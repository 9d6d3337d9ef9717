"""Turns the errors of the schema into problems: where, which rule, and one suggestion."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from monitor.config import Config
from monitor.document import UNSAID, Document, Problem, Where
from monitor.durations import duration_text
from monitor.wording import meant, probable

_EMPTY = "must not be empty"
# A number as people write it elsewhere: with a decimal comma, as a percentage, or both.
_ELSEWHERE = re.compile(r"(\d+|\d*[.,]\d+)\s*(%|percent)?")
_ZONE = re.compile("(?i)tz|((time)?zone|utc)(offset)?")
_SINGLE = ("int_", "float_", "bool_", "string_")
# Kinds of schema errors, by how their names begin: the rule, and what to do.
_WORDS = (
    ("int_", "must be a whole number", "write one, such as 10"),
    ("float_", "must be a number", "write one, such as 0.5"),
    ("finite_", "must be a finite number", "write one, such as 0.5"),
    ("bool_", "must be true or false", "write one of them"),
    ("string_too_short", _EMPTY, "fill it in, or remove the line"),
    ("string_", "must be text", "put it into quotes"),
    ("too_short", _EMPTY, "add one entry at least"),
    ("model_", "must be a mapping of keys", "write its keys below it, or remove the line"),
    ("dict_", "must be a mapping of keys", "write its keys below it, or remove the line"),
    ("mapping_", "must be a mapping of keys", "write its keys below it, or remove the line"),
    ("tuple_", "must be a list", "write it as [one, two]"),
    ("list_", "must be a list", "write it as [one, two]"),
)
# Kinds of bounds: what is said, and what to do.
_BOUNDS = {
    "ge": ("must be at least", "raise it"),
    "gt": ("must be more than", "raise it"),
    "le": ("must be at most", "lower it"),
    "lt": ("must be less than", "lower it"),
}


def problems_of(error: ValidationError, document: Document) -> list[Problem]:
    """Return the problems of a schema error, one for each place.

    A misspelt key that is missing, too, is one problem; so is what fits none of several types.
    """
    found: dict[Where, Problem] = {}
    entries: list[Any] = list(error.errors(include_url=False))
    for entry in entries:
        where = _known_place(entry, document)
        if where[-2:-1] == ("roles",) and _is_of_other_type(entry):
            continue
        if where in found:
            # Several types are allowed here, and the value is of none of them.
            rule = "must be the name of a column, or a mapping with column and unit"
            found[where] = Problem(where, rule, "write the column's name", entry["input"])
        elif entry["type"] == "extra_forbidden":
            found[where] = _unknown_key(where, entry["loc"], document)
        else:
            found[where] = _problem(entry, where)
    meant = {problem.meant for problem in found.values()}
    return [problem for where, problem in found.items() if where not in meant]


def _is_of_other_type(entry: Any) -> bool:
    """Return whether an error only says that a role is not written in the other way that it can be."""
    kind, value = str(entry["type"]), entry["input"]
    return (isinstance(value, dict) and kind == "string_type") or (isinstance(value, str) and kind.startswith("model_"))


def _known_place(entry: Any, document: Document) -> Where:
    """Return the place of an error without the names of types that pydantic puts into it."""
    kept: Where = ()
    *parts, last = entry["loc"]
    for part in parts:
        if (*kept, part) in document.places:
            kept = (*kept, part)
    return (*kept, last) if (*kept, last) in document.places or entry["type"] == "missing" else kept


def _unknown_key(where: Where, location: Where, document: Document) -> Problem:
    names = _keys(location[:-1])
    if _ZONE.fullmatch(re.sub("[-_ ]", "", str(where[-1]))):
        return Problem(where, "unknown key", "remove it: all times are UTC, those of the data without a zone too")
    if close := probable(str(where[-1]), names):
        place = (*where[:-1], close)
        # What is wrong with a key that is there as well is another problem.
        absent = None if place in document.places else place
        return Problem(where, "unknown key", f"did you mean {close}?", meant=absent)
    return Problem(where, "unknown key", f"use one of {', '.join(sorted(names))}")


def _keys(location: Where) -> list[str]:
    """Return the keys that may stand at a place, which is told with the types that pydantic puts into it."""
    annotation: Any = Config
    for part in location:
        annotation = _inside(annotation, part)
    return list(
        {field.alias or name: None for model in _models(annotation) for name, field in model.model_fields.items()}
    )


def _inside(annotation: Any, part: str | int) -> Any:
    """Return the type of what stands under a key."""
    models = _models(annotation)
    if models and isinstance(part, str):
        fields = [model.model_fields[part].annotation for model in models if part in model.model_fields]
        # Of several types an error names the one that was chosen.
        return next(iter(fields or [model for model in models if part in (model.__name__, _tag(model))]), None)
    if get_origin(annotation) is dict:
        return get_args(annotation)[1]
    return get_args(annotation)[0] if get_origin(annotation) is tuple and isinstance(part, int) else None


def _models(annotation: Any) -> list[type[BaseModel]]:
    """Return the sections that a type allows: itself, or those of a choice."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (dict, tuple):
        return []
    return [model for entry in get_args(annotation) for model in _models(entry)]


def _problem(entry: Any, where: Where) -> Problem:
    """Return one problem in words: the rule, the value, what to do."""
    kind, value = str(entry["type"]), entry.get("input")
    context: Mapping[str, Any] = entry.get("ctx") or {}
    if kind == "missing":
        name = where[-1] if isinstance(where[-1], str) else f"entry {where[-1] + 1}"
        return Problem(where, "is missing", f"add {name}")
    if value is None:
        return Problem(where, _EMPTY, "fill it in, or remove the line")
    if kind == "union_tag_not_found":
        return Problem(where, "has no type", f"add type: one of {', '.join(_tags(where))}")
    if kind == "union_tag_invalid":
        return _choice((*where, "type"), str(context["tag"]), _tags(where))
    if kind in ("enum", "literal_error"):
        return _choice(where, str(value), re.findall(r"'([^']*)'", str(context["expected"])))
    if kind == "value_error":
        rule, _, todo = str(context["error"]).partition("; ")
        return Problem(where, rule, todo, value)
    if kind == "float_parsing" and (todo := _number_meant(str(value).strip())):
        return Problem(where, "must be a number", todo, value)
    for name, (rule, todo) in _BOUNDS.items():
        if name in context:
            return _bound(where, value, f"{rule} {_number(context[name])}", (name, context[name], todo))
    if kind == "string_too_long":
        return Problem(where, f"must have at most {context['max_length']} characters", "shorten it", value)
    if kind == "too_long":
        return Problem(where, f"must have at most {context['max_length']} entries", "remove the others", value)
    for start, rule, todo in _WORDS:
        if kind.startswith(start):
            if isinstance(value, list | dict) and start.startswith(_SINGLE):
                todo = "write a single value"
            elif isinstance(value, dict):
                todo = "begin each entry with -"
            return Problem(where, rule, todo, UNSAID if rule == _EMPTY else value)
    # A kind of error that no setting has today: the schema's own words, without any value.
    return Problem(where, str(entry["msg"])[:1].lower() + str(entry["msg"])[1:], "change it", value)


def _number_meant(text: str) -> str:
    """Return how a number is written here; empty where none was meant."""
    found = _ELSEWHERE.fullmatch(text)
    if found is None:
        return ""
    number = float(found[1].replace(",", ".")) / (100 if found[2] else 1)
    return f"write {number:g} for {text}" if number <= 1 or not found[2] else ""


def _tags(where: Where) -> list[str]:
    """Return the types that something at a place can have."""
    annotation: Any = Config
    for part in where:
        annotation = _inside(annotation, part)
    return [_tag(model) for model in _models(annotation)]


def _tag(model: type[BaseModel]) -> str:
    """Return the type that a section of several is for; empty where there are not several."""
    return str(get_args(model.model_fields["type"].annotation)[0]) if "type" in model.model_fields else ""


def _choice(where: Where, value: str, names: list[str]) -> Problem:
    return Problem(where, "is not known", meant(value, names), value)


def _bound(where: Where, value: Any, rule: str, broken: tuple[str, Any, str]) -> Problem:
    kind, bound, todo = broken
    if kind in ("le", "lt") and bound == 1 and isinstance(value, int | float) and 1 < value <= 100:
        todo = f"write {value / 100:g}, a ratio, if that is a percentage"
    return Problem(where, rule, todo, value)


def _number(bound: Any) -> str:
    if str(bound).startswith("datetime.timedelta("):
        # The validator hands on how Python would write it.
        return duration_text(timedelta(**{unit: int(n) for unit, n in re.findall(r"(\w+)=(\d+)", bound)}))
    return f"{bound:g}" if isinstance(bound, int | float) else str(bound)
