"""An environment becomes settings, or sentences that name what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config import Settings, SettingsError, load
from config.loading import ABOUT


def problems(environ: dict[str, str], flags: dict[str, str] | None = None) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        load(environ, flags or {})
    return caught.value.problems


def test_nothing_set_gives_the_defaults() -> None:
    """An empty environment is a complete configuration."""
    assert load({}) == Settings()
    assert (load({}).host, load({}).port) == ("127.0.0.1", 8484)


def test_only_the_given_environment_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither the process's variables nor a .env file in its folder can change what `load` returns."""
    monkeypatch.setenv("REFRAIN_CACHE_WORKERS", "9")
    monkeypatch.setenv("PORT", "9")
    monkeypatch.chdir(tmp_path)
    Path(".env").write_text("REFRAIN_CACHE_WORKERS=7\n")
    assert load({}).cache_workers == Settings().cache_workers == 4
    assert load({}).port == 8484


def test_empty_means_not_set() -> None:
    """Compose files pass unset variables on as empty strings."""
    environ = {about.name: "" for about in ABOUT.values() if about.name}
    assert load(environ) == Settings()


def test_other_programs_variables_are_none_of_our_business() -> None:
    """Only names with our prefix are looked at, and only ours without it."""
    assert load({"PATH": "/bin", "HOST": "x", "CACHE_WORKERS": "x"}) == Settings()


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("REFRAIN_CACHE_WORKER", "REFRAIN_CACHE_WORKERS"),
        ("REFRAIN_MAX_LLM_STREAMS", "REFRAIN_MAX_CONCURRENT_LLM_STREAMS"),
        ("REFRAIN_PORT", "PORT"),
        ("REFRAIN_OPENAI_API_KEY", "OPENAI_API_KEY"),
    ],
)
def test_an_unknown_name_is_refused_with_a_hint(name: str, hint: str) -> None:
    """A typing error never silently leaves a default in force."""
    assert problems({name: "1"}) == (f"{name} is not a setting of Refrain; did you mean {hint}?",)


def test_an_unknown_name_unlike_any_other_gets_no_hint() -> None:
    """A far-fetched guess would mislead."""
    assert problems({"REFRAIN_ZZZ": ""}) == ("REFRAIN_ZZZ is not a setting of Refrain.",)


def test_every_problem_is_told_at_once() -> None:
    """An operator mends a broken environment in one go."""
    found = problems(
        {"REFRAIN_X_Y": "1", "REFRAIN_CACHE_WORKERS": "0", "REFRAIN_DURABLE": "yes", "PORT": "x"}
    )
    assert found == (
        "REFRAIN_X_Y is not a setting of Refrain.",
        "REFRAIN_CACHE_WORKERS must be a whole number from 1 to 1000000, not '0'.",
        "REFRAIN_DURABLE must be 0 or 1, not 'yes'.",
        "PORT must be a whole number from 0 to 65535, not 'x'.",
    )


@pytest.mark.parametrize(
    ("inner", "value", "outer"),
    [
        ("REFRAIN_FIRST_TOKEN_TIMEOUT_S", "600", "REFRAIN_STREAM_TIMEOUT_S"),
        ("REFRAIN_STREAM_IDLE_TIMEOUT_S", "601", "REFRAIN_STREAM_TIMEOUT_S"),
        ("REFRAIN_SEND_TIMEOUT_S", "60", "REFRAIN_STREAM_IDLE_TIMEOUT_S"),
    ],
)
def test_timers_in_the_wrong_order_refuse_the_start(inner: str, value: str, outer: str) -> None:
    """An inner timer that cannot fire before the outer one is named together with it."""
    [sentence] = problems({inner: value})
    assert inner in sentence
    assert outer in sentence


def test_flags_win_over_the_environment_and_are_blamed_by_their_own_name() -> None:
    """What is typed on the command line beats what is set in the shell."""
    assert load({"PORT": "1000"}, {"port": "2000", "host": "0.0.0.0"}).port == 2000
    assert problems({"PORT": "1000"}, {"port": "99999"}) == (
        "--port must be a whole number from 0 to 65535, not '99999'.",
    )


@pytest.mark.parametrize(
    "environ",
    [
        {"REFRAIN_API_KEYS": "acme:sesame"},
        {"REFRAIN_ADMIN_KEY": "sesame"},
        {"OPENAI_API_KEY": "open sesame"},
        {"REDIS_URL": "ftp://user:sesame@host"},
        {"REFRAIN_PREPARE_URL": "ftp://user:sesame@host"},
        {"REFRAIN_API_KEYS": "a:sesame-sesame,b:sesame-sesame"},
        {"REFRAIN_ADMIN_KEY": "sesame-sesame", "PORT": "x"},
    ],
)
def test_no_secret_is_in_an_error(environ: dict[str, str]) -> None:
    """Start-up errors end in logs; a key that was refused may be right but for one character."""
    with pytest.raises(SettingsError) as caught:
        load(environ)
    chain = [caught.value, caught.value.__cause__]
    assert "sesame" not in "".join(f"{error!r} {error}" for error in chain)
    assert caught.value.__suppress_context__


@given(st.dictionaries(st.sampled_from([a.name for a in ABOUT.values() if a.name]), st.text(max_size=12)))
def test_any_text_gives_settings_or_sentences(environ: dict[str, str]) -> None:
    """No value makes `load` fail in any other way than its own, nor with anything but sentences."""
    environ.pop("REFRAIN_API_KEYS_FILE", None)
    found: tuple[str, ...] = ()
    try:
        load(environ)
    except SettingsError as error:
        found = error.problems
    assert all(problem.endswith(".") and "\n" not in problem for problem in found)
    assert all(any(name in problem for name in environ) for problem in found)
