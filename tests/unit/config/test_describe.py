"""What `refrain check` prints is what holds, where it comes from, and no secret."""

from __future__ import annotations

from config import SettingLine, describe, load
from config.loading import ABOUT
from config.settings import Settings

ENVIRON = {
    "REFRAIN_CACHE_WORKERS": "9",
    "REFRAIN_LOCAL_CACHE_BYTES": "1536",
    "REFRAIN_DURABLE": "1",
    "REFRAIN_QUEUE_TIMEOUT_S": "0.5",
    "REFRAIN_API_KEYS": "acme:sesame-1,beta:sesame-2",
    "REFRAIN_ADMIN_KEY": "sesame-3",
    "OPENAI_API_KEY": "sesame-4",
    "REDIS_URL": "redis://:sesame-5@h",
    "REFRAIN_PREPARE_URL": "http://h/?key=sesame-6",
    "REFRAIN_QUEUE_SIZE": "",
}


def lines(environ: dict[str, str], flags: dict[str, str] | None = None) -> dict[str, SettingLine]:
    return {line.name: line for line in describe(load(environ, flags or {}), environ, flags or {})}


def test_every_setting_is_a_line_with_a_meaning() -> None:
    """Nothing that can be set is hidden."""
    assert len(lines({})) == len(ABOUT) == len(Settings.model_fields)
    assert all(line.what and line.scope for line in lines({}).values())


def test_values_are_written_as_a_person_would() -> None:
    """Sizes have units where they are round, booleans are what was typed, nothing is `none`."""
    found = lines(ENVIRON)
    shown = {
        name: found[name].value for name in (*ENVIRON, "REFRAIN_RETENTION_BYTES", "REFRAIN_PREPARE_MODEL")
    }
    assert shown == {
        "REFRAIN_CACHE_WORKERS": "9",
        "REFRAIN_LOCAL_CACHE_BYTES": "1536",
        "REFRAIN_DURABLE": "1",
        "REFRAIN_QUEUE_TIMEOUT_S": "0.5",
        "REFRAIN_API_KEYS": "acme:***, beta:***",
        "REFRAIN_ADMIN_KEY": "***",
        "OPENAI_API_KEY": "***",
        "REDIS_URL": "redis://***@h",
        "REFRAIN_PREPARE_URL": "http://h/?***",
        "REFRAIN_QUEUE_SIZE": "1000",
        "REFRAIN_RETENTION_BYTES": "256 MiB",
        "REFRAIN_PREPARE_MODEL": "none",
    }


def test_the_origin_of_each_value_is_told() -> None:
    """An empty variable counts as not set; a flag hides the variable."""
    found = lines(ENVIRON | {"PORT": "1"}, {"port": "2", "host": "0.0.0.0"})
    assert found["REFRAIN_CACHE_WORKERS"].origin == "environment"
    assert found["REFRAIN_QUEUE_SIZE"].origin == "default"
    assert (found["PORT"].value, found["PORT"].origin) == ("2", "command line")
    assert found["--host"].origin == "command line"


def test_no_secret_is_in_any_text() -> None:
    """Neither the lines nor the settings' own representation show one."""
    settings = load(ENVIRON)
    assert "sesame" not in f"{settings!r} {settings} {describe(settings, ENVIRON)}"
