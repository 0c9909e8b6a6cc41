"""An answer that preparation has at hand, or gets from a tool: it takes no permit of the model."""

from __future__ import annotations

from broadcast.answering import RUNAWAY_BYTES
from broadcast.broadcast import Broadcast
from broadcast.lifecycle import Signal
from processing.account import beside
from processing.preparer import Direct, DirectFailed, Prompt
from runtime.errors import GatewayError, UpstreamBadResponse
from upstream.chunk import Chunk


async def answer_directly(broadcast: Broadcast[Chunk], direct: Direct, prompt: Prompt) -> bool:
    """From QUEUED to SEALED or FAILED; False: it came to nothing, nothing was shown, and it still waits.

    `prompt` is the one it stands in. Cancelled when the broadcast is deserted or abandoned.
    """
    try:
        async with direct.stream(broadcast) as batches:
            broadcast.signal(Signal.SLOT_GRANTED)
            ahead = prompt.preface
            async for batch in batches:
                broadcast.append([*beside(ahead, batch[0]), *batch] if ahead else batch)
                ahead = ()
                if broadcast.log.size > RUNAWAY_BYTES:
                    raise UpstreamBadResponse("The answer is too large.")
            broadcast.complete()
    except DirectFailed:
        return False
    except GatewayError as error:
        broadcast.fail(error)
    except Exception:
        broadcast.fail(GatewayError())
        raise
    return True
