"""How many keys to ask for at once, so that a batch of large answers does not look like a hung Redis.

64 answers of 1 MiB do not come over in 100 ms, and decoding them would stall the event loop. So the
batch follows the sizes that were last seen.
"""

from __future__ import annotations

from cache.store import MAX_BATCH

TARGET_BYTES = 4 * 1024 * 1024
_USUAL_BYTES = TARGET_BYTES // MAX_BATCH


class BatchSize:
    """`most` keys make a reply of about 4 MiB, if its values are as large as the largest of late."""

    def __init__(self) -> None:
        self._expected = _USUAL_BYTES

    def __repr__(self) -> str:
        return f"<BatchSize {self.most}>"

    @property
    def most(self) -> int:
        """From 1 to 64."""
        return max(1, TARGET_BYTES // self._expected)

    def saw(self, values: list[bytes | None]) -> None:
        """Values as they are stored or come back: large ones shrink the batch at once, small ones let it
        grow again slowly."""
        largest = max((len(value) for value in values if value is not None), default=0)
        self._expected = max(largest, _USUAL_BYTES, self._expected * 9 // 10)

    def failed(self) -> None:
        """No reply came in time: perhaps it was too large, and its size cannot be seen."""
        self._expected = min(TARGET_BYTES, self._expected * 8)
