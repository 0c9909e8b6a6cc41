"""The settings: read once at start, from the environment, and never again. Imported by `app` only."""

from config.advice import warnings
from config.describe import SettingLine, describe
from config.loading import SettingsError, load
from config.settings import Settings

__all__ = ["SettingLine", "Settings", "SettingsError", "describe", "load", "warnings"]
