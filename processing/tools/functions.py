"""A Python function becomes a tool: pydantic makes its schema of the hints, its docstring describes it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated, Any, Final, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from processing.caller import Caller
from processing.tools.options import Options
from processing.tools.tool import MAX_ARGUMENTS, Arguments, ArgumentsRefused, Kind, Tool

#: So many faults are told: the model mends one call, it does not read a report.
_FAULTS: Final = 3
_UNKNOWN: Final = "extra_forbidden"
_BY_NAME: Final = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def tool(
    function: Callable[..., Any], *, name: str | None = None, description: str | None = None, **options: Any
) -> Tool:
    """The tool that `function` is: async or blocking, and a generator if it puts out pieces of text.

    Raises ValueError for a function whose arguments a model cannot fill by name, and for options that
    contradict themselves (see `Options`).
    """
    name = name or function.__name__
    fields, caller_as = _parameters(name, function)
    return Tool(
        name=name,
        description=description or inspect.getdoc(function) or "",
        kind=_kind(function),
        function=function,
        reader=FunctionReader(fields),
        options=_options(name, options),
        caller_as=caller_as,
    )


def _options(name: str, given: dict[str, Any]) -> Options:
    """In words for whoever wrote the call: which tool, which option, what is wrong."""
    try:
        return Options(**given)
    except ValidationError as error:
        faults = error.errors(include_url=False)
    unknown = [f"there is no option {fault['loc'][0]!r}" for fault in faults if fault["type"] == _UNKNOWN]
    others = [
        ": ".join([*map(str, fault["loc"]), fault["msg"]]) for fault in faults if fault["type"] != _UNKNOWN
    ]
    raise ValueError(f"the tool {name!r}: {'; '.join(unknown + others)}")


class FunctionReader:
    """Reads arguments by a model made of the function's hints. `fields`: parameter → (hint, default)."""

    def __init__(self, fields: dict[str, tuple[Any, Any]]) -> None:
        # Fields of a model cannot have just any name, a parameter can: so it is the alias.
        self._fields = {f"p{number}": parameter for number, parameter in enumerate(fields)}
        given: dict[str, Any] = {
            field: (Annotated[fields[parameter][0], Field(alias=parameter)], fields[parameter][1])
            for field, parameter in self._fields.items()
        }
        config = ConfigDict(extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)
        self._model: type[BaseModel] = create_model("Arguments", __config__=config, **given)
        self.schema = self._model.model_json_schema()
        for described in (self.schema, *self.schema.get("properties", {}).values()):
            described.pop("title", None)  # pydantic's own invention: it says nothing and costs tokens

    def read(self, text: str) -> Arguments:
        """The function's keyword arguments. Raises ArgumentsRefused."""
        if len(text) > MAX_ARGUMENTS:
            raise ArgumentsRefused(f"the arguments are longer than {MAX_ARGUMENTS} characters")
        try:
            read = self._model.model_validate_json(text or "{}")
        except ValidationError as error:
            raise ArgumentsRefused(_told(error)) from None
        values = {parameter: getattr(read, field) for field, parameter in self._fields.items()}
        return Arguments(values, self._canonical(read, text or "{}"))

    def _canonical(self, read: BaseModel, text: str) -> bytes:
        """As it was read; as it was said, where that hides something: secrets, fields left out of dumps."""
        dumped = read.model_dump_json(by_alias=True)
        with suppress(Exception):  # a validator need not take what it has made
            if self._model.model_validate_json(dumped) == read:
                return dumped.encode()
        return b"said " + text.encode()


def _told(error: ValidationError) -> str:
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    lines = [f"{'.'.join(map(str, fault['loc'])) or 'arguments'}: {fault['msg']}" for fault in faults]
    more = len(lines) - _FAULTS
    return "; ".join(lines[:_FAULTS] + ([f"and {more} more"] if more > 0 else []))


def _parameters(name: str, function: Callable[..., Any]) -> tuple[dict[str, tuple[Any, Any]], str | None]:
    try:
        hints = get_type_hints(_plain(function), include_extras=True)
    except NameError as error:
        raise ValueError(f"the tool {name!r}: a type hint cannot be read, {error}") from None
    fields: dict[str, tuple[Any, Any]] = {}
    caller_as = None
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind not in _BY_NAME:
            raise ValueError(f"the tool {name!r}: a model cannot fill {parameter}, only named arguments")
        if parameter.name not in hints:
            raise ValueError(f"the tool {name!r}: the parameter {parameter.name!r} needs a type hint")
        if hints[parameter.name] is Caller:
            caller_as = parameter.name
            continue
        default = ... if parameter.default is inspect.Parameter.empty else parameter.default
        fields[parameter.name] = (hints[parameter.name], default)
    return fields, caller_as


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with the hints: an object that can be called has them on its method."""
    if inspect.isfunction(function) or inspect.ismethod(function):
        return function
    return function.__call__  # type: ignore[no-any-return, operator]


def _kind(function: Callable[..., Any]) -> Kind:
    plain = _plain(function)
    if inspect.isasyncgenfunction(plain):
        return Kind.ASYNC_STREAM
    if inspect.iscoroutinefunction(plain):
        return Kind.ASYNC
    return Kind.BLOCKING_STREAM if inspect.isgeneratorfunction(plain) else Kind.BLOCKING
