"""A simulated model that speaks the OpenAI wire: the embedded default and every test's upstream."""

from upstream.simulator.answers import MODEL, answer_tokens, prompt_digest
from upstream.simulator.app import create_simulator
from upstream.simulator.behaviour import Behaviour, BehaviourError

__all__ = ["MODEL", "Behaviour", "BehaviourError", "answer_tokens", "create_simulator", "prompt_digest"]
