"""What a file of endpoints may say: one entry, its parameters, and where in the request each of them goes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import Field, StringConstraints

from processing.files.timers import UNBOUNDED, Outer
from processing.tools.json_schema import faults
from processing.tools.options import Options

Place = Literal["path", "query", "json"]
PLACES: Final = ("path", "query", "json")
_PLACEHOLDER: Final = re.compile(r"\{([^{}]*)\}")
_SCALARS: Final = frozenset({"string", "integer", "number", "boolean"})
#: Framing and routing are the transport's.
_FORBIDDEN: Final = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "accept-encoding"}
)

HeaderName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}$")]
EnvironmentName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")]
#: A fault in an entry: the path to it within the entry, and what is wrong there.
Fault = tuple[Sequence[str | int], str]


class Endpoint(Options):
    """One entry. `headers` are the names of environment variables: no secret stands in the file.

    `parameters` is a JSON schema of an object, or its properties alone; each may say `in` which part of the
    request it goes, and `required: false`.
    """

    name: Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    description: Annotated[str, StringConstraints(min_length=1, max_length=4000, pattern=r"\S")]
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = "GET"
    url: Annotated[str, StringConstraints(min_length=1, max_length=4000)]
    headers: dict[HeaderName, EnvironmentName] = Field(default_factory=dict)
    parameters: dict[str, Any] = Field(default_factory=dict)
    max_bytes: Annotated[int, Field(ge=1, le=20 * 1024 * 1024)] = 262_144

    @property
    def options(self) -> Options:
        return Options(**{name: getattr(self, name) for name in Options.model_fields})


@dataclass(frozen=True, slots=True)
class Parameters:
    """`schema` is what the model is told and its arguments are checked by."""

    schema: dict[str, Any]
    places: Mapping[str, Place]


def parameters(endpoint: Endpoint) -> Parameters:
    """The parameters of an entry that has no fault."""
    given, properties, required = _read(endpoint)
    taken = {} if given is properties else dict(given)
    bare = {name: _bare(each, schema=bool(taken)) for name, each in properties.items()}
    schema = {
        **taken,
        "type": "object",
        "properties": bare,
        "required": required,
        "additionalProperties": False,
    }
    return Parameters(schema, {name: _place(endpoint, name, each) for name, each in properties.items()})


def entry_faults(endpoint: Endpoint, prepare: Outer = UNBOUNDED) -> Iterator[Fault]:
    """What no single field shows. Only a tool that gives the answer itself may run longer than `prepare`."""
    if not endpoint.direct_stream and (what := prepare.hides(endpoint.timeout_s)):
        yield ("timeout_s",), what
    yield from _url_faults(endpoint.url)
    yield from ((("headers", name), f"{name} is not yours to set") for name in _framing(endpoint.headers))
    if endpoint.method != "GET" and "stateful" not in endpoint.model_fields_set:
        yield ("method",), f"say whether {endpoint.method} changes anything: stateful: true or false"
    broken = list(_parameter_faults(endpoint))
    yield from broken
    if not broken:
        yield from _placeholder_faults(endpoint)


def _framing(headers: Mapping[str, str]) -> list[str]:
    return [name for name in headers if name.lower() in _FORBIDDEN]


def _url_faults(url: str) -> Iterator[Fault]:
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        sound = False
    if not sound:
        yield ("url",), "a URL is http or https, with a host"
    elif parts.username is not None or parts.password is not None:
        yield ("url",), "a URL holds no credentials: use headers"
    elif parts.fragment or not url.isprintable() or " " in url:
        yield ("url",), "a URL has no fragment, no blanks and no control characters"
    elif any("{" in part or "}" in part for part in (parts.netloc, parts.query)):
        yield ("url",), "only the path has {placeholders}"


def _read(endpoint: Endpoint) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """What was given, the properties in it, and which are required."""
    given = endpoint.parameters
    if isinstance(given.get("type"), str):
        listed = given.get("required", [])
        return given, given.get("properties", {}), list(listed) if isinstance(listed, list) else []
    required = [name for name, each in given.items() if _required(each)]
    return given, given, required


def _required(field: Any) -> bool:
    return isinstance(field, dict) and bool(field.get("required", "default" not in field))


def _bare(field: Mapping[str, Any], *, schema: bool) -> dict[str, Any]:
    """A property without what is ours. In a schema `required` is the schema's own word."""
    ours = {"in"} if schema else {"in", "required"}
    return {name: value for name, value in field.items() if name not in ours}


def _place(endpoint: Endpoint, name: str, field: Mapping[str, Any]) -> Place:
    if "in" in field:
        place: Place = field["in"]
        return place
    if name in _PLACEHOLDER.findall(urlsplit(endpoint.url).path):
        return "path"
    return "query" if endpoint.method in ("GET", "DELETE") else "json"


def _parameter_faults(endpoint: Endpoint) -> Iterator[Fault]:
    given, properties, _ = _read(endpoint)
    inside = ["parameters"] if given is properties else ["parameters", "properties"]
    if given is not properties and given["type"] != "object":
        yield ("parameters", "type"), "the arguments of a call are an object"
        return
    if not isinstance(properties, dict):
        yield inside, "properties are a mapping"
        return
    for name, field in properties.items():
        found = list(_field_faults(endpoint, field, schema=given is not properties))
        yield from (([*inside, name, *path], f"{name}: {what}") for path, what in found)
    if given is not properties:
        rest = {name: value for name, value in given.items() if name != "properties"}
        yield from ((["parameters", *path], what) for path, what in faults(rest))


def _field_faults(endpoint: Endpoint, field: Any, *, schema: bool) -> Iterator[Fault]:
    if not isinstance(field, dict):
        yield (), "a parameter is a mapping, with its type"
    elif field.get("in", "path") not in PLACES:
        yield ("in",), f"it goes in one of {', '.join(PLACES)}"
    elif field.get("in") == "json" and endpoint.method == "GET":
        yield ("in",), "a GET has no body"
    elif not schema and not isinstance(field.get("required", True), bool):
        yield ("required",), "required is true or false"
    else:
        yield from faults(_bare(field, schema=schema))


def _placeholder_faults(endpoint: Endpoint) -> Iterator[Fault]:
    _, properties, required = _read(endpoint)
    placeholders = _PLACEHOLDER.findall(urlsplit(endpoint.url).path)
    in_path = {name for name, field in properties.items() if _place(endpoint, name, field) == "path"}
    for name in sorted(set(placeholders) ^ in_path):
        what = "is no parameter of the path" if name in placeholders else "has no {placeholder} in the path"
        yield ("url",), f"{name} {what}"
    for name in sorted(in_path & set(placeholders)):
        if name not in required or properties[name].get("type") not in _SCALARS:
            yield ("url",), f"{name} is in the path, so it is required, and a string, number or boolean"
