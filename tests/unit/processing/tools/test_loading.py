"""A file of endpoints: what it becomes, and all that may be wrong with it, each with its line."""

from __future__ import annotations

from typing import Any

import pytest

from processing.files.problems import BadFile
from processing.files.timers import Outer
from processing.tools import Status
from processing.tools.loading import load
from tests.fakes.endpoints import FakeHttp
from tests.fakes.tools import Bench
from tests.virtual_time import virtual

ENVIRONMENT = {"WEATHER_KEY": "Bearer s3cret", "ODD": "two\nlines"}
GOOD = """\
tools:
  - name: weather
    description: The weather of a city.
    url: http://weather.test/v1/{city}/now?units=metric
    headers:
      Authorization: WEATHER_KEY
    parameters:
      city: {type: string, description: Its name., minLength: 1}
      days: {type: integer, default: 1, maximum: 7}
      tags: {type: array, items: {type: string}, required: false}
    time_bound: 60
    timeout_s: 5
    retries: 1
  - name: note
    description: Writes a note.
    method: POST
    url: https://notes.test/notes
    parameters:
      type: object
      properties:
        text: {type: string}
        loud: {type: boolean, in: query}
      required: [text]
    stateful: true
"""


def tools(text: str, http: FakeHttp | None = None) -> Any:
    return load("tools.yaml", text, ENVIRONMENT, http or FakeHttp())


def test_a_good_file_becomes_tools() -> None:
    """Names, options, and schemas without what is only ours."""
    weather, note = tools(GOOD)
    assert (weather.name, note.name) == ("weather", "note")
    assert (weather.options.time_bound, weather.options.timeout_s, weather.options.retries) == (60, 5, 1)
    assert weather.offered["function"]["parameters"] == {
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": "Its name.", "minLength": 1},
            "days": {"type": "integer", "default": 1, "maximum": 7},
            "tags": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["city"],
        "additionalProperties": False,
    }
    assert note.offered["function"]["parameters"]["properties"]["loud"] == {"type": "boolean"}
    assert note.options.stateful


@virtual
async def test_arguments_go_where_the_file_says() -> None:
    """Into the path, the query and the body, each encoded as its place needs it."""
    http = FakeHttp()
    bench = Bench(*tools(GOOD, http))
    assert (await bench.one("weather", city="Bad Tölz/1?", tags=["a b", "c&d"])).text == "fine"
    assert (await bench.one("note", text="hé", loud=True)).text == "fine"
    assert http.asked == [
        (
            "GET",
            "http://weather.test/v1/Bad%20T%C3%B6lz%2F1%3F/now?units=metric&tags=a%20b&tags=c%26d&days=1",
            None,
        ),
        ("POST", "https://notes.test/notes?loud=true", b'{"text":"h\xc3\xa9"}'),
    ]
    assert http.headers[0]["Authorization"] == "Bearer s3cret"
    assert "Content-Type" not in http.headers[0]
    assert http.headers[1]["Content-Type"] == "application/json"


@virtual
async def test_arguments_are_checked_by_the_schema() -> None:
    """Nonsense is refused with a reason before anything is sent."""
    http = FakeHttp()
    bench = Bench(*tools(GOOD, http))
    result = await bench.one("weather", city="", days=9, more=1)
    assert result.status is Status.REFUSED
    for part in ("city: ", "days: 9 is greater than the maximum of 7", "'more' was unexpected"):
        assert part in result.note
    assert http.asked == []


def entry(lines: str = "", **fields: str) -> str:
    """A file with one entry, whose first field is on line 2; `lines` come last."""
    given = {
        "name": "a",
        "description": "Does a.",
        "url": "http://h.test/p",
        "cacheable": "true",
        **{name: value for name, value in fields.items() if value},
    }
    given = {name: value for name, value in given.items() if fields.get(name) != ""}
    text = "\n    ".join([f"{name}: {value}" for name, value in given.items()] + lines.splitlines())
    return f"tools:\n  - {text}\n"


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("tools: [", ["tools.yaml:1: not YAML: expected the node content, but found '<stream end>'"]),
        (
            "other: 1\ntools: []",
            [":1: there is no field 'other', only tools", ":2: tools is a list with at least"],
        ),
        ("tools:\n  - 3", [":2: an entry is a mapping, with name, description and url"]),
        (entry(name=""), [":2: name is missing"]),
        (entry(name="not a name"), [":2: tool 'not a name': name: a name is a-z, A-Z, 0-9, _ and hyphens"]),
        (entry(description='" "'), [":3: tool 'a': description is empty"]),
        (entry(description='""'), [":3: tool 'a': description is empty"]),
        (entry(parameters="3"), [":6: tool 'a': parameters is a mapping"]),
        (entry(colour="red"), [":6: tool 'a': there is no field 'colour'"]),
        (entry(cacheable=""), ["tool 'a': cacheable: say what its use does to the cache"]),
        (entry(time_bound="5"), [":5: tool 'a': cacheable: what is time_bound"]),
        (entry(timeout_s="-1"), [":6: tool 'a': timeout_s: Input should be greater than 0"]),
        (entry(timeout_s="soon"), [":6: tool 'a': timeout_s: Input should be a valid number"]),
        (entry(method="HEAD"), [":6: tool 'a': method: "]),
        (entry(method="POST"), [":6: tool 'a': say whether POST changes anything"]),
        (entry(url="ftp://h.test/"), [":4: tool 'a': a URL is http or https, with a host"]),
        (entry(url="http:///p"), [":4: tool 'a': a URL is http or https, with a host"]),
        (entry(url="http://h.test:0/"), [":4: tool 'a': a URL is http or https, with a host"]),
        (entry("parameters:\n  type: object\n  required: 3"), [":8: tool 'a': 3 is not of type 'array'"]),
        (entry(url="http://h.test:x/"), [":4: tool 'a': a URL is http or https, with a host"]),
        (entry(url="http://u:p@h.test/"), [":4: tool 'a': a URL holds no credentials"]),
        (entry(url='"http://h.test/#f"'), [":4: tool 'a': a URL has no fragment"]),
        (entry(url='"http://{host}.test/"'), [":4: tool 'a': only the path has {placeholders}"]),
        (entry(url='"http://h.test/{x}"'), [":4: tool 'a': x is no parameter of the path"]),
        (entry("headers:\n  Host: WEATHER_KEY"), [":7: tool 'a': Host is not yours to set"]),
        (entry("headers:\n  X-A: UNSET"), [":7: tool 'a': the variable UNSET is not set"]),
        (entry("headers:\n  X-A: ODD"), [":7: tool 'a': the variable ODD holds what no header may carry"]),
        (entry('headers:\n  "X A": ODD'), [":7: tool 'a': headers: no header can be called 'X A'"]),
        (entry("headers:\n  name: a b"), [":7: tool 'a': name: a header's value is the name of an env"]),
        (entry("parameters:\n  x: 3"), [":7: tool 'a': x: a parameter is a mapping"]),
        (entry("parameters:\n  x: {type: text}"), [":7: tool 'a': x: 'text' is not valid"]),
        (entry("parameters:\n  x:\n    type: string\n    in: body"), [":9: tool 'a': x: it goes in one of"]),
        (entry("parameters:\n  x:\n    type: string\n    in: json"), [":9: tool 'a': x: a GET has no body"]),
        (entry("parameters:\n  x: {type: string, in: path}"), [":4: tool 'a': x has no {placeholder}"]),
        (entry("parameters:\n  x: {type: string, required: 1}"), [":7: tool 'a': x: required is true"]),
        (entry("parameters:\n  x:\n    $ref: http://evil.test/"), [":8: tool 'a': x: $ref may only point"]),
        (entry("parameters:\n  x: {type: string, pattern: '('}"), [":7: tool 'a': x: '(' is not a 'regex'"]),
        (
            entry("parameters:\n  x: {type: string, required: false}", url='"http://h.test/{x}"'),
            [":4: tool 'a': x is in the path, so it is required"],
        ),
        (
            entry("parameters:\n  x: {type: array}", url='"http://h.test/{x}"'),
            [":4: tool 'a': x is in the path, so it is required, and a string"],
        ),
        (entry("parameters:\n  type: array"), [":7: tool 'a': the arguments of a call are an object"]),
        (entry("parameters:\n  type: object\n  properties: 3"), [":8: tool 'a': properties are a mapping"]),
        (entry("parameters:\n  type: object\n  required: x"), [":8: tool 'a': 'x' is not of type 'array'"]),
        (entry("name: b"), [":6: the key 'name' is here twice"]),
        (entry() + entry()[7:], [":6: there are two tools with the name 'a'"]),
        (entry(colour="red", url="x"), [":6: tool 'a': there is no field 'colour'"]),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text: str, problems: list[str]) -> None:
    """At the start, all of it at once, and never a secret."""
    with pytest.raises(BadFile) as bad:
        tools(text)
    said = str(bad.value).splitlines()
    assert len(said) == len(problems), said
    for line, problem in zip(said, problems, strict=True):
        assert problem in line
        assert line.startswith("tools.yaml:")
        assert "lines" not in line


@pytest.mark.parametrize(
    ("text", "line"), [(entry(timeout_s="20"), 6), (entry(), 2), (entry(direct_stream="true"), None)]
)
def test_a_tool_has_less_time_than_the_preparation(text: str, line: int | None) -> None:
    """Also by the default of 30 s, which stands on no line of its own; not if it is the answer itself."""
    prepare = Outer("OUTER", 20)
    if line is None:
        assert load("tools.yaml", text, {}, FakeHttp(), prepare)
        return
    with pytest.raises(BadFile) as bad:
        load("tools.yaml", text, {}, FakeHttp(), prepare)
    time = 20 if "timeout_s" in text else 30
    assert str(bad.value) == (f"tools.yaml:{line}: tool 'a': timeout_s ({time}) must be less than OUTER (20)")
    assert load("tools.yaml", text, {}, FakeHttp(), Outer("OUTER", time + 0.1))


def test_a_file_that_is_no_mapping_is_refused() -> None:
    """A list of entries without `tools:` is the likeliest slip."""
    with pytest.raises(BadFile, match=r"tools\.yaml:1: "):
        tools("- name: a")


def test_all_problems_are_told_at_once() -> None:
    """One start, one list: nobody mends a file line by line."""
    with pytest.raises(BadFile) as bad:
        tools(entry(colour="red") + entry(name="b", method="POST")[7:])
    assert [problem.line for problem in bad.value.problems] == [6, 11]
