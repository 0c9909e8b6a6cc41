"""What a tool declares of itself: its limits, and what its use does to the cache."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError


class Options(BaseModel):
    """The same for functions and for endpoints in a file. Times are seconds.

    A tool has to say what it does to the cache: `cacheable` (its results hold as long as any answer),
    `time_bound` (for so long, 0: never stored), `user_bound` (for one user), or `stateful`, which is never
    stored. Nothing is the default: a tool that was merely forgotten would serve yesterday's weather, or
    somebody's letters.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    timeout_s: Annotated[float, Field(gt=0, le=3600)] = 30.0  #: of one try, from its slot on
    retries: Annotated[int, Field(ge=0, le=5)] = 0  #: after a failure; a timeout is final
    limit: Annotated[int, Field(ge=1, le=10_000)] = 8  #: at once, in this process
    rate: Annotated[float, Field(gt=0, le=100_000)] | None = None  #: tries per second
    burst: Annotated[int, Field(ge=1, le=10_000)] = 1
    stateful: bool = False  #: one after the other within a request, never shared, never tried again
    cacheable: bool = False
    time_bound: Annotated[float, Field(ge=0)] | None = None
    user_bound: bool = False
    direct_stream: bool = False  #: called alone, it gives the answer itself

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        bound = self.time_bound is not None or self.user_bound
        if not (self.cacheable or bound or self.stateful):
            kinds = "cacheable, time_bound or user_bound, or stateful, which is never stored"
            raise _wrong("cacheable", f"say what its use does to the cache: {kinds}")
        if self.cacheable and (bound or self.stateful):
            raise _wrong("cacheable", "what is time_bound, user_bound or stateful is not cacheable")
        if self.stateful and self.retries:
            raise _wrong("retries", "a stateful tool is not run twice: retries must be 0")
        if self.burst > 1 and self.rate is None:
            raise _wrong("burst", "a burst needs a rate")
        return self

    @property
    def ttl_s(self) -> float | None:
        """How long an answer that used it holds; None: as long as any."""
        return 0.0 if self.stateful else self.time_bound


def _wrong(field: str, what: str) -> PydanticCustomError:
    """`field` is where a reader of the file is sent to."""
    return PydanticCustomError("tool_options", "{what}", {"what": what, "field": field})
