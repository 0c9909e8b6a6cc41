"""Templates: what a prompt needs and nothing more, within bounds, and never a way out."""

from __future__ import annotations

from typing import Any

import pytest

from processing.workflows.template import MAX_CHARACTERS, Template, TemplateFailed, TemplateProblem

VALUES: dict[str, Any] = {
    "question": "why {{ 7 * 7 }}?",
    "messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}],
    "results": {"a": "A", "code-style": "B", "items": "C"},
    "missing": {"b": "timed_out"},
    "history": [],
    "round": 2,
    "task": "t",
    "inbox": [{"from": "x", "topic": "y", "text": "z"}],
}


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ question }}", "why {{ 7 * 7 }}?"),
        ("{{ results.a }}{{ results['code-style'] }}{{ results.items }}", "ABC"),
        ("{% for name, why in missing.items() %}{{ name }}: {{ why }}{% endfor %}", "b: timed_out"),
        ("{% for m in messages %}{{ loop.index }}{{ m.content }}{% endfor %}", "1hi2ho"),
        ("{% set x = question | upper | trim %}{{ x | length }}{{ round + 1 }}{{ 3 * round }}", "1636"),
        ("{% if 'b' in missing and round > 1 %}yes{% endif %}", "yes"),
        ("{{ inbox[0].text }}{{ messages | length }}{{ '<&>' }}", "z2<&>"),
        ("{% for n in range(3) %}{{ n }}{% endfor %}{{ 'a b'.split() | join('-') }}", "012a-b"),
    ],
)  # fmt: skip
def test_what_a_prompt_needs(source: str, text: str) -> None:
    """Values are data: what looks like a template in one stays as it is, and nothing is escaped."""
    assert Template(source).fill(VALUES) == text


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__ }}",
        "{{ question.__class__.__mro__[1].__subclasses__() }}",
        "{{ question['__class__'] }}",
        "{{ ''['__cl' ~ 'ass__'] }}",
        "{{ range.__globals__ }}",
        "{{ results.items.__self__ }}",
        "{{ '{0.__class__}'.format(question) }}",
        "{{ '{0.__class__}'.format_map(results) }}",
        "{{ '%s' % question }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update({}) }}",
        "{{ results.pop('a') }}",
        "{{ 'a'.center(1000000000) }}",
        "{{ 'a'.encode() }}",
        "{{ self.__init__ }}",
        "{{ loop }}",
        "{{ question.nothing }}",
        "{{ results.nobody }}",
        "{{ messages[9] }}",
        "{{ 1 / 0 }}",
        "{{ question + 1 }}",
        "{{ [] | first }}",
    ],
)
def test_there_is_no_way_out_and_nothing_is_changed(source: str) -> None:
    """A mistake in a file, or a trick, is one failed step: never a Python object, never a changed value."""
    before = repr(VALUES)
    with pytest.raises((TemplateFailed, TemplateProblem)):
        Template(source).fill(VALUES)
    assert repr(VALUES) == before


@pytest.mark.parametrize(
    "source",
    [
        "{% for a in range(1000) %}{% for b in range(1000) %}{% endfor %}{% endfor %}",
        "{% for a in range(999999999) %}{% endfor %}",
        "{{ 'a' * 1000000000 }}",
        "{{ [1] * 1000000000 }}",
        "{{ 10 ** 1000000000 }}",
        "{{ '%1000000000d' % 1 }}",
        "{% for a in range(101) %}{% for b in range(990) %}x{% endfor %}{% endfor %}",
    ],
)
def test_work_is_bounded(source: str) -> None:
    """All requests of the process wait while a template is filled: a mistake in one must not stop them."""
    with pytest.raises(TemplateFailed):
        Template(source).fill(VALUES)


def test_size_is_bounded() -> None:
    """Just what is allowed is; one character more is not."""
    template = Template("{{ question }}")
    assert len(template.fill({"question": "x" * MAX_CHARACTERS})) == MAX_CHARACTERS
    with pytest.raises(TemplateFailed, match="a prompt of more than"):
        template.fill({"question": "x" * (MAX_CHARACTERS + 1)})
    loop = Template("{% for a in range(1000) %}{{ question }}{% endfor %}")
    with pytest.raises(TemplateFailed, match="a prompt of more than"):
        loop.fill({"question": "x" * 2000})


def test_the_bound_on_loops_is_of_one_filling() -> None:
    """A template that is filled ten thousand times is not used up."""
    template = Template("{% for a in range(60) %}{% for b in range(999) %}{% endfor %}{% endfor %}done")
    assert {template.fill(VALUES) for _ in range(3)} == {"done"}


@pytest.mark.parametrize(
    ("source", "line", "said"),
    [
        ("a\n{% if %}", 2, "Expected an expression"),
        ("a\nb\n{{ nobody }}", 3, "there is no variable 'nobody'; there are history, inbox"),
        ("{% include 'x' %}", 1, "include is not for prompts"),
        ("{% import 'x' as x %}", 1, "import is not for prompts"),
        ("{% extends 'x' %}", 1, "extends is not for prompts"),
        ("\n{% macro m() %}{{ m() }}{% endmacro %}", 2, "macro is not for prompts"),
        ("{% for a in messages recursive %}{{ loop(a) }}{% endfor %}", 1, "must not be recursive"),
        ("{{ question | center(9) }}", 1, "No filter named 'center'"),
        ("{{ question | attr('__class__') }}", 1, "No filter named 'attr'"),
        ("{{ namespace() }}", 1, "there is no variable 'namespace'"),
        ("{{ lipsum() }}", 1, "there is no variable 'lipsum'"),
        ("{{ " + "(" * 5000, 1, ""),
    ],
)
def test_what_can_be_seen_without_filling_is_seen_at_start(source: str, line: int, said: str) -> None:
    """With the line, so that a file says it and not a user."""
    with pytest.raises(TemplateProblem) as problem:
        Template(source)
    assert said in str(problem.value)
    assert problem.value.line == line


def test_a_reason_quotes_no_value() -> None:
    """I5: it goes into the record and the log."""
    secret = {**VALUES, "question": "my secret", "results": {"secret": "s"}}
    for source in (
        "{{ question + 1 }}",
        "{{ question.nothing }}",
        "{{ results.b }}",
        "{{ question | int + [] }}",
    ):
        with pytest.raises(TemplateFailed) as failed:
            Template(source).fill(secret)
        assert "secret" not in str(failed.value)


def test_the_steps_that_it_reads_are_known() -> None:
    """What a mapping can do is no step."""
    template = Template(
        "{{ results.a }}\n{{ results['b-c'] }}{{ results.items() }}{{ messages.a }}{{ results[question] }}"
    )
    assert template.mentions == (("a", 1), ("b-c", 2))
