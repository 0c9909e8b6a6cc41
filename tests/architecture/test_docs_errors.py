"""docs/errors.md beyond codes and statuses: what may be retried, which codes of the model are passed on."""

from __future__ import annotations

from tests.architecture.pages import quoted, section, table
from tests.architecture.test_documents import all_errors
from upstream.refusals import REJECTED_CODES

PAGE = "docs/errors.md"


def test_the_errors_page_says_of_each_code_whether_a_retry_makes_sense() -> None:
    """An SDK's author copies that column: it must be what `failed` events and headers say."""
    documented = {row[0].strip("`"): row[2] for row in table(section(PAGE, "Codes"))}
    actual = {error.code: "yes" if error.retryable else "no" for error in all_errors()}
    assert {code: documented[code] for code in actual} == actual


def test_the_errors_page_lists_the_models_codes_that_are_passed_on() -> None:
    """Those and no others reach a client, so that an upstream cannot put words into our mouth."""
    documented = {
        word
        for line in section(PAGE, "Codes of the model").splitlines()
        if line.startswith(("- ", "  "))
        for word in quoted(line)
    }
    assert documented == set(REJECTED_CODES)
