"""LangChain's chat model, one way of asking after another; tells one JSON line."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from langchain_openai import ChatOpenAI  # type: ignore[import-not-found]

SETTINGS = json.loads(sys.argv[1])
QUESTION: str = SETTINGS["question"]
MODEL = ChatOpenAI(
    base_url=SETTINGS["url"] + "/v1",
    api_key="any",
    model="refrain-sim",
    max_retries=SETTINGS.get("retries", 0),
    timeout=30,
    stream_usage=SETTINGS.get("usage", True),
)


def look_up(word: str) -> str:
    """Look up a word."""
    return word


def invoke() -> dict[str, Any]:
    message = MODEL.invoke(QUESTION)
    return {
        "text": message.text,
        "usage": message.usage_metadata,
        "finish": message.response_metadata["finish_reason"],
    }


def stream() -> dict[str, Any]:
    pieces = list(MODEL.stream(QUESTION))
    whole = pieces[0]
    for piece in pieces[1:]:
        whole += piece
    return {
        "text": whole.text,
        "pieces": len(pieces),
        "usage": whole.usage_metadata,
        "finish": whole.response_metadata.get("finish_reason"),
    }


async def _astream() -> str:
    return "".join([piece.text async for piece in MODEL.astream(QUESTION)])


def astream() -> dict[str, Any]:
    return {"text": asyncio.run(_astream())}


def batch() -> dict[str, Any]:
    messages = MODEL.batch([QUESTION] * SETTINGS["callers"], config={"max_concurrency": SETTINGS["callers"]})
    return {"texts": [message.text for message in messages]}


def bind_tools() -> dict[str, Any]:
    model = MODEL.bind_tools([look_up])
    whole: Any = None
    for piece in model.stream(QUESTION):
        whole = piece if whole is None else whole + piece
    return {
        "whole": [call["name"] for call in model.invoke(QUESTION).tool_calls],
        "streamed": [call["name"] for call in whole.tool_calls],
    }


WAYS = {way.__name__: way for way in (invoke, stream, astream, batch, bind_tools)}

try:
    told = WAYS[SETTINGS["way"]]()
except Exception as error:  # whatever it is, the test judges it
    told = {"error": type(error).__name__, "code": getattr(error, "code", None)}
sys.stdout.write(json.dumps(told) + "\n")
