"""A scripted model server that also has a list of models: only what is asked of the model takes a script."""

from __future__ import annotations

from tests.fakes.upstream import Request, Script, ScriptedUpstream, reply

_MODELS = reply("200 OK", b'{"object":"list","data":[{"id":"m","object":"model"}]}')


class ChatUpstream(ScriptedUpstream):
    """The n-th completion gets the n-th script, the last one all further ones; see `ScriptedUpstream`."""

    @property
    def asked(self) -> list[Request]:
        """The completions, in order."""
        return [request for request in self.requests if request.method == "POST"]

    def script(self) -> Script:
        if self.requests[-1].method == "GET":
            return [_MODELS]
        return self.scripts[min(len(self.asked), len(self.scripts)) - 1]
