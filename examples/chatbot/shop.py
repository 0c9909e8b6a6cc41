"""Three tools for the chatbot of a shop: functions, whose hints and docstrings are what the model is told.

`make example-chatbot` serves them. What a tool's use does to the cache stands in the list at the end.
"""

from __future__ import annotations

import os
import threading
import zlib
from datetime import UTC, datetime
from pathlib import Path

from processing.tools import Caller, tool

PAGES = Path(__file__).with_name("pages.txt")
WEATHER_TTL_S = float(os.environ.get("SHOP_WEATHER_TTL_S", "60"))
SEARCH_S = float(os.environ.get("SHOP_SEARCH_S", "3"))
ORDERS = {
    "ada": ["4711: a kettle, delivered on Monday", "4712: two cups, on their way"],
    "bob": ["4800: a garden chair, in the warehouse"],
}


async def weather(city: str) -> str:
    """The weather in a city, as it is now."""
    # A real one would await an HTTP client here; this one makes it up.
    return f"{zlib.crc32(city.encode()) % 40 - 5} °C in {city}, seen at {datetime.now(UTC):%H:%M:%S}"


def my_orders(caller: Caller) -> str:
    """What the user has ordered, and where it is."""
    return "; ".join(ORDERS.get(caller.user or "", [])) or "no orders"


def search(word: str) -> str:
    """The rules of our shop that have this word, from a slow archive."""
    threading.Event().wait(SEARCH_S)  # what a blocking call takes; it runs in a thread, nobody else waits
    found = [line for line in PAGES.read_text(encoding="utf-8").splitlines() if word.lower() in line.lower()]
    return " ".join(found) or f"nothing on {word}"


TOOLS = [
    tool(weather, time_bound=WEATHER_TTL_S),
    tool(my_orders, user_bound=True, time_bound=60),
    tool(search, cacheable=True, timeout_s=20),
]
