"""Can a host be reached, and if not, which step failed: name, connection, TLS. Bounded whatever hangs."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from contextlib import suppress
from typing import Any

from app.doctor.finding import LOOK_S


class Unreached(Exception):
    """`says` names the step that failed, `do` what helps."""

    def __init__(self, says: str, do: str) -> None:
        super().__init__(says)
        self.says = says
        self.do = do


class NothingThere(Unreached):
    """The machine answered that nothing listens on that port."""


async def reach(host: str, port: int, *, tls: bool = False, seconds: float = LOOK_S) -> None:
    """Look the name up, connect, shake hands, all within `seconds`. Raises Unreached."""
    step = f"The name {host} was not looked up"
    try:
        async with asyncio.timeout(seconds):
            await resolve(host, port)
            step = f"{host}:{port} did not take a connection"
            _, writer = await asyncio.open_connection(host, port)
            writer.transport.abort()
            if tls:
                step = f"{host}:{port} took the connection, but the TLS handshake did not end"
                _, writer = await asyncio.open_connection(host, port, ssl=ssl.create_default_context())
                writer.transport.abort()
    except TimeoutError:
        raise Unreached(f"{step} within {seconds:g} s.", "Look for a firewall or a wrong address.") from None
    except (OSError, ValueError) as error:
        raise explained(error, f"{host}:{port}") from None


async def resolve(host: str, port: int) -> None:
    """Raises what getaddrinfo does. A thread that nobody waits for: a look-up cannot be interrupted."""
    loop = asyncio.get_running_loop()
    found: asyncio.Future[None] = loop.create_future()

    def settle(error: Exception | None) -> None:
        if found.done():
            return
        if error is None:
            found.set_result(None)
        else:
            found.set_exception(error)

    def look_up() -> None:
        failure: Exception | None = None
        try:
            socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, ValueError) as error:
            failure = error
        with suppress(RuntimeError):  # the loop has been closed meanwhile
            loop.call_soon_threadsafe(settle, failure)

    threading.Thread(target=look_up, daemon=True).start()
    await found


def explained(error: BaseException, where: str) -> Unreached:
    """What an error of a socket means, whatever library wrapped it."""
    causes = list(chain(error))
    for kind, says, do in _MEANINGS:
        for cause in causes:
            if isinstance(cause, kind):
                meant = NothingThere if kind is ConnectionRefusedError else Unreached
                return meant(says.format(where=where, why=_reason(cause)), do)
    return Unreached(f"{where} could not be reached ({type(error).__name__}).", "See its log.")


def chain(error: BaseException) -> list[BaseException]:
    """The error, and all that it came from."""
    found: list[BaseException] = []
    todo: list[BaseException | None] = [error]
    while todo:
        one = todo.pop(0)
        if one is not None and one not in found:
            found.append(one)
            todo += [one.__cause__, one.__context__]
    return found


_MEANINGS: tuple[tuple[type[BaseException], str, str], ...] = (
    (
        ssl.SSLCertVerificationError,
        "The certificate of {where} is not trusted ({why}).",
        "Use the name that it was made for, or add its authority to this machine's.",
    ),
    (
        ssl.SSLError,
        "The TLS handshake with {where} failed ({why}).",
        "Is its port one without TLS? Then the address begins with http:// or redis://.",
    ),
    (
        socket.gaierror,
        "The name in {where} is not known here ({why}).",
        "Check its spelling, and the name server of this machine or container.",
    ),
    (
        UnicodeError,
        "The name in {where} is none that a name server can be asked for.",
        "Check its spelling.",
    ),
    (
        ConnectionRefusedError,
        "{where} refused the connection: nothing listens there.",
        "Is it running, and is the port right?",
    ),
    (
        ConnectionResetError,
        "{where} broke the connection.",
        "Is it a server of this kind, and may this machine use it?",
    ),
    (
        FileNotFoundError,
        "There is no socket at {where}.",
        "Is it running, and is the path right?",
    ),
    (
        PermissionError,
        "This user may not open {where}.",
        "Give it the right, or run as another user.",
    ),
    (TimeoutError, "{where} did not answer in time.", "Look for a firewall, a wrong address, or a hang."),
    (OSError, "{where} could not be reached ({why}).", "Check the address, and the way to it."),
)


def _reason(error: Any) -> str:
    """Short and without what was sent: the certificate's fault, or the system's word for it."""
    words = getattr(error, "verify_message", None) or getattr(error, "reason", None)
    return str(words or getattr(error, "strerror", None) or type(error).__name__)
