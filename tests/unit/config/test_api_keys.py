"""API keys: who is let in, and that a broken list lets in nobody."""

from __future__ import annotations

from pathlib import Path

import pytest

from config import SettingsError, load


def pairs(environ: dict[str, str]) -> list[tuple[str, str]]:
    return [(key.tenant, key.key.get_secret_value()) for key in load(environ).api_keys]


def problem(environ: dict[str, str]) -> str:
    with pytest.raises(SettingsError) as caught:
        load(environ)
    [sentence] = caught.value.problems
    return sentence


def test_pairs_are_separated_by_commas() -> None:
    """A tenant may have two keys, while one replaces the other; white space around a pair is nothing."""
    assert pairs({"REFRAIN_API_KEYS": "acme:11111111, acme:22222222,b.c-d_e:33333333,"}) == [
        ("acme", "11111111"),
        ("acme", "22222222"),
        ("b.c-d_e", "33333333"),
    ]


def test_a_key_may_hold_colons() -> None:
    """The tenant ends at the first one."""
    assert pairs({"REFRAIN_API_KEYS": "acme:sk:1:234567"}) == [("acme", "sk:1:234567")]


@pytest.mark.parametrize(
    "text",
    [
        "acme",
        "acme:",
        ":12345678",
        "acme:1234567",
        "a/b:12345678",
        "é:12345678",
        f"{'t' * 65}:12345678",
        "a:1234 5678",
    ],
)
def test_a_pair_that_is_none_is_refused_by_its_place(text: str) -> None:
    """The place is told, because the pair itself must not be."""
    assert problem({"REFRAIN_API_KEYS": f"ok:12345678,{text}"}).endswith("pair 2 does not.")


def test_one_key_cannot_belong_to_two() -> None:
    """Or a tenant would act as another."""
    assert (
        problem({"REFRAIN_API_KEYS": "a:12345678,b:12345678"}) == "REFRAIN_API_KEYS gives the same key twice."
    )


@pytest.mark.parametrize("text", [",", " , ,", "# a:12345678"])
def test_a_list_without_a_key_does_not_open_the_gateway(text: str) -> None:
    """Whoever sets the variable wants callers to have keys."""
    assert problem({"REFRAIN_API_KEYS": text}) == "REFRAIN_API_KEYS holds no tenant:key pair."


def test_a_file_takes_lines_commas_and_comments(tmp_path: Path) -> None:
    """A byte-order mark at its start is not part of the first tenant."""
    path = tmp_path / "keys"
    path.write_text("# ours\na:11111111\n\n  # theirs\nb:2222#222,c:33333333\r\n", encoding="utf-8-sig")
    found = pairs({"REFRAIN_API_KEYS_FILE": str(path)})
    assert found == [("a", "11111111"), ("b", "2222#222"), ("c", "33333333")]


def test_both_sources_at_once_are_refused(tmp_path: Path) -> None:
    """It would have to be guessed which of them is meant."""
    path = tmp_path / "keys"
    path.write_text("a:11111111")
    environ = {"REFRAIN_API_KEYS": "a:11111111", "REFRAIN_API_KEYS_FILE": str(path)}
    assert "are both set" in problem(environ)


def test_a_file_that_cannot_be_used_stops_the_start(tmp_path: Path) -> None:
    """Missing, a folder, not text, or empty: never an open gateway instead."""
    binary, empty = tmp_path / "binary", tmp_path / "empty"
    binary.write_bytes(b"\xff\xfe\x00")
    empty.write_text("# none yet\n")
    for path, words in (
        (tmp_path / "missing", "names a file that cannot be read (No such file or directory)"),
        (tmp_path, "names a file that cannot be read (Is a directory)"),
        (binary, "names a file that is not UTF-8 text"),
        (empty, "holds no tenant:key pair"),
    ):
        assert problem({"REFRAIN_API_KEYS_FILE": str(path)}) == f"REFRAIN_API_KEYS_FILE {words}."
