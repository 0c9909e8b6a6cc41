"""Admission: bounded stages, their permits and their waiting rooms. Generic in who is admitted."""

from admission.order import Priority, order_of
from admission.stage import Admission, Permit, Stage, StageStats

__all__ = ["Admission", "Permit", "Priority", "Stage", "StageStats", "order_of"]
