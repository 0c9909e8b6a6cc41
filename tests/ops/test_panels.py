"""Every panel of the dashboard shows something, in a real Prometheus that has scraped a loaded gateway."""

from __future__ import annotations

import pytest

from tests.ops.dashboard import Query, queries
from tests.ops.prometheus import Scraped, Series

#: Shown because it has to be 0 for ever.
#: The second, because nobody in this load waits behind a turn; see tests/system/test_conversations.py.
ALWAYS_ZERO = {"Permits reclaimed and lost B", "Broadcasts and subscribers C"}


def shown(scraped: Scraped, query: Query) -> Series:
    """What the panel shows at any moment of the load; of all of it together, if it adds up."""
    text = query.filled("15s", f"{int(scraped.end - scraped.begin) + 1}s")
    if "$__range" in query.text:
        return scraped.prometheus.at(text, scraped.end)
    return scraped.prometheus.over(text, scraped.begin, scraped.end)


@pytest.mark.parametrize("query", list(queries()), ids=str)
def test_every_query_of_every_panel_shows_what_happened(scraped: Scraped, query: Query) -> None:
    """A panel that is empty under load is empty when somebody needs it; only a zero may always be one."""
    values = [value for series in shown(scraped, query).values() for value in series]
    assert values
    if str(query) in ALWAYS_ZERO:
        assert set(values) == {0.0}
    else:
        assert max(values) > 0
