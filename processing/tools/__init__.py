"""Tools that the model may call during preparation: what they are, how they run, and what comes of it."""

from processing.caller import Caller
from processing.tools.functions import tool
from processing.tools.results import Result, Status, ToolFailed
from processing.tools.rounds import Rounds
from processing.tools.step import ToolStep
from processing.tools.tool import Tool
from processing.tools.toolbox import Toolbox

__all__ = ["Caller", "Result", "Rounds", "Status", "Tool", "ToolFailed", "ToolStep", "Toolbox", "tool"]
