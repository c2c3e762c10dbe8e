"""Untrusted text shown: Markdown in a child process with bounds, masks, and characters made visible."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from django.conf import settings
from django.contrib.staticfiles import finders
from django.contrib.staticfiles.storage import ManifestStaticFilesStorage
from django.core.files.base import ContentFile
from django.template import Context, Template
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from annotation.rendering import (
    DEFAULT_PATTERNS,
    MARK,
    RenderingUnavailable,
    check_patterns,
    mask,
    remask,
    render_many,
    render_markdown,
    renderer,
    show_controls,
    unmask,
)
from annotation.rendering.markup import ALLOWED_CLASSES, DIRECTED, REL, TAGS
from annotation.rendering.renderer import BATCH_SECONDS, START_SECONDS
from tests.xss_corpus import PAYLOADS


@pytest.fixture(autouse=True)
def empty_cache() -> Iterator[None]:
    """What another test rendered is rendered again; the child may live on."""
    renderer._cache.clear()
    yield
    renderer._cache.clear()


# What Markdown becomes


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("**b** *i* ~~s~~ `c`", '<p dir="ltr"><strong>b</strong> <em>i</em> <s>s</s> <code>c</code></p>'),
        ("one\ntwo", '<p dir="ltr">one<br>\ntwo</p>'),
        ("# A\n\n## B\n\n##### E", '<h3 dir="ltr">A</h3>\n<h4 dir="ltr">B</h4>\n<h6 dir="ltr">E</h6>'),
        (
            "[a](https://x.test/b?c=d&e 't')",
            '<p dir="ltr"><a href="https://x.test/b?c=d&amp;e" target="_blank" '
            'rel="noopener noreferrer nofollow">a</a></p>',
        ),
        ("[a](/logout) [b](//x.test)", '<p dir="ltr">[a](/logout) [b](//x.test)</p>'),
        (
            "![a *cat*](https://x.test/c.png)",
            '<p dir="ltr"><span class="image">a cat (https://x.test/c.png)</span></p>',
        ),
        ("![](https://x.test/c.png)", '<p><span class="image">(https://x.test/c.png)</span></p>'),
        ("<b>x</b> <!-- c -->", '<p dir="ltr">&lt;b&gt;x&lt;/b&gt; &lt;!-- c --&gt;</p>'),
        ("[1]: https://x.test", '<p dir="ltr">[1]: https://x.test</p>'),
        ("- a\n- b", '<ul dir="ltr">\n<li>a</li>\n<li>b</li>\n</ul>'),
        ("7. a", '<ol start="7" dir="ltr">\n<li>a</li>\n</ol>'),
        (
            "```py\nx = 1\n```",
            '<pre class="code" dir="ltr"><code class="language-python">x = <span class="m">1</span>\n</code></pre>',
        ),
        ("```brainfog\n<x>\n```", '<pre class="code" dir="ltr"><code>&lt;x&gt;\n</code></pre>'),
        (
            "| a | b |\n|--:|---|\n| 1 | c |",
            '<div class="table"><table dir="ltr">\n<thead>\n<tr>\n<th class="right" dir="ltr">a</th>\n'
            '<th dir="ltr">b</th>\n</tr>\n</thead>\n<tbody>\n<tr>\n<td class="right">1</td>\n'
            '<td dir="ltr">c</td>\n</tr>\n</tbody>\n</table></div>',
        ),
        ("", ""),
    ],
)
def test_markdown_becomes_this_html(text: str, html: str) -> None:
    rendered = render_markdown(text)
    assert (rendered.html, rendered.is_plain) == (html, False)


def formulas(text: str) -> list[str]:
    """The formulas of a text: "|" before a displayed one."""
    found = []
    for part in render_markdown(text).html.split('class="math')[1:]:
        kind, _quote, rest = part.partition('" dir="ltr">')
        found.append(("|" if "block" in kind else "") + rest.partition("<")[0])
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Costs $5 and $10, US$5 or US$6, 5$ or 6$, $20/$30, **$5**–**$6**.", []),
        ("$x$ is 5", ["x"]),
        ("let $a_1 * b_2$, $$c$$ and \\(d_1 * e_2\\)", ["a_1 * b_2", "|c", "d_1 * e_2"]),
        ("so $n$-th, 设$x$为 and \\$5$", ["n", "x"]),
        ("`$x$` and \\\\(x\\\\)", []),
        ("text\n$$\na\n= b\n- c\n$$\ntext", ["|a\n= b\n- c"]),
        ("text\n\\[\na\n= b\n\\]\ntext \\[ z \\] on", ["|a\n= b", "|z"]),
        ("> $$\n> q\n> $$\n\n- \\[\n  l\n  \\]", ["|q", "|l"]),
        ("\\begin{align}\na &= b\n\\end{align}", ["|\\begin{align}\na &amp;= b\n\\end{align}"]),
        ("$$a$$ and $$b$$", ["|a", "|b"]),
        ("$$a\n\nb$$", []),
        ("$a<b$", ["a&lt;b"]),
        ("| a |\n|---|\n| $x$ |", ["x"]),
    ],
)
def test_formulas_are_found_and_money_is_not(text: str, expected: list[str]) -> None:
    assert formulas(text) == expected


def test_directions_are_set_on_what_holds_the_text() -> None:
    """A quotation and its list are laid out from the right for the Arabic in them, code always from the left."""
    html = render_markdown("> - نعم yes\n> - ok\n\n123\n\n\u200fabc\n\n`x` نعم\n\n```\nنعم\n```").html
    assert html == (
        '<blockquote dir="rtl">\n<ul dir="rtl">\n<li>نعم yes</li>\n<li>ok</li>\n</ul>\n</blockquote>\n<p>123</p>\n'
        '<p dir="ltr"><span class="bidi">RLM</span>abc</p>\n<p dir="ltr"><code>x</code> نعم</p>\n'
        '<pre class="code" dir="ltr"><code>نعم\n</code></pre>'
    )


def test_nothing_that_was_written_is_left_out() -> None:
    """What CommonMark would drop: cells beyond the head, reference definitions, raw HTML, lists 50 deep."""
    text = "| a |\n|---|\n| b | extra |\n\n[ref]: https://x.test\n\n<i>raw</i>\n\n<!-- comment -->"
    assert [
        word
        for word in ("extra", "[ref]: https://x.test", "<i>raw</i>", "comment")
        if word not in render_markdown(text).text
    ] == []
    deep = "".join("  " * depth + f"- level{depth}\n" for depth in range(50))
    rendered = render_markdown(deep)
    assert (rendered.is_plain, rendered.text) == (True, deep)


# Sanitising


class Checker(HTMLParser):
    """Collects whatever is not on the list, the text, and tags that do not match."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.complaints: list[str] = []
        self.seen: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in TAGS:
            self.complaints.append(f"<{tag}>")
        self.complaints += [f"{tag} {name}={value!r}" for name, value in attrs if not self.may(tag, name, value or "")]
        if len({name for name, _value in attrs}) != len(attrs):
            self.complaints.append(f"<{tag}> repeats an attribute")
        if tag not in ("br", "hr"):
            self.open.append(tag)

    @staticmethod
    def may(tag: str, name: str, value: str) -> bool:
        if name == "class":
            ours = {"span": {"mask", "bidi", "control"}, "div": {"plain"}}.get(tag, set())
            return set(value.split()) <= ALLOWED_CLASSES.get(tag, set()) | ours
        if name == "dir":
            return (tag in DIRECTED and value in ("ltr", "rtl")) or (tag == "div" and value == "auto")
        if tag == "a":
            return {"rel": value == REL, "target": value == "_blank"}.get(
                name, name == "href" and value.lower().startswith(("https://", "http://", "mailto:"))
            )
        return (tag, name) == ("ol", "start") and value.isdigit()

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.complaints.append(f"</{tag}>")

    def handle_data(self, data: str) -> None:
        self.seen.append(data)

    def handle_comment(self, data: str) -> None:
        self.complaints.append("a comment")

    def handle_decl(self, decl: str) -> None:
        self.complaints.append("a declaration")

    def handle_pi(self, data: str) -> None:
        self.complaints.append("a processing instruction")


def check(html: str, *, text: str) -> list[str]:
    checker = Checker()
    checker.feed(html)
    checker.close()
    seen = "".join(checker.seen)
    unseen = [hex(ord(char)) for char in seen if char != show_controls(char) and char not in "\u200c\u200d"]
    return checker.complaints + checker.open + unseen + ([] if seen == text else [f"text {seen!r} for {text!r}"])


def test_the_corpus_is_large_enough() -> None:
    assert len(PAYLOADS) >= 80
    assert len({name for name, _text in PAYLOADS}) == len(PAYLOADS)


@pytest.mark.parametrize(("name", "text"), PAYLOADS, ids=[name for name, _text in PAYLOADS])
def test_no_payload_leaves_anything_but_what_is_allowed(name: str, text: str) -> None:
    """On its own, in a list, in a quotation, in a table, in emphasis, and masked."""
    frames = ["{}", "- {}", "> {}", "| {} |\n|---|\n| {} |", "**{}**", "x `{}` [{}](https://a.test/{})"]
    texts = [frame.replace("{}", text) for frame in frames]
    texts.append(mask(f"I am Claude. {text}", patterns=["I am *", "click", "window", "script"]).text)
    for rendered in render_many(texts):
        assert check(rendered.html, text=rendered.text) == []


MARKDOWN_PIECES = st.sampled_from(
    [
        *("*", "_", "`", "```", "~~", "[", "](", ")", "![", "<", ">", "$", "\\(", "\\)", "\\[", "\\]", "\n", "\n\n"),
        *(
            "    ",
            "- ",
            "1. ",
            "# ",
            "> ",
            "|",
            "|-|",
            "&amp;",
            "&#x202e;",
            "\\",
            "https://a.test",
            "<script>",
            "\u202e",
        ),
        *("\x00", "⟦masked 1⟧", "نعم", "a b", "python\n", "\r\n", "\u00a0", "\ud800", "<!--", "]]>", '"', "'", "$$"),
        "---\n",
    ]
)


@hypothesis_settings(max_examples=300, deadline=None)
@given(st.lists(MARKDOWN_PIECES | st.text(max_size=3), max_size=30).map("".join))
def test_any_text_stays_within_the_list_and_is_counted_as_it_is_shown(text: str) -> None:
    rendered = render_markdown(text)
    assert check(rendered.html, text=rendered.text) == []


# Characters that cannot be seen


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\u202eb\u2066c\u061c", "a⟦RLO⟧b⟦LRI⟧c⟦ALM⟧"),
        ("\x1b[31m\x07\x7f\x85", "⟦ESC⟧[31m⟦BEL⟧⟦DEL⟧⟦NEL⟧"),
        ("a\u200bb\ufeff\u2060\xad", "a⟦ZWSP⟧b⟦BOM⟧⟦WJ⟧⟦SHY⟧"),
        ("x\U000e0041\U000e0042", "x⟦U+E0041⟧⟦U+E0042⟧"),
        ("\u200b" * 5_000, "⟦ZWSP×5000⟧"),
        ("می\u200cخواهم क्\u200dष", "می\u200cخواهم क्\u200dष"),
        ("👩\u200d🔬 ❤\ufe0f", "👩\u200d🔬 ❤\ufe0f"),
        ("a\u200cb\u200dc", "a⟦ZWNJ⟧b⟦ZWJ⟧c"),
        ("🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f", None),
        ("葛\U000e0100 a\U000e0100", "葛\U000e0100 a⟦U+E0100⟧"),
        ("\ud800\x00", "\ufffd\ufffd"),
        ("tab\t line\r\nend\r", "tab\t line\nend\n"),
    ],
)
def test_unseen_characters_are_named_and_needed_ones_stay(text: str, shown: str | None) -> None:
    assert show_controls(text) == (text if shown is None else shown)


def test_controls_are_marked_in_text_code_links_and_formulas() -> None:
    html = render_markdown(
        "a\u202e `b\u202e` [c\u202e](https://x.test) $d\u202e$ &#x202e;\n\n```python\n'\u202e'\n```"
    ).html
    assert html.count('<span class="bidi">RLO</span>') == 6
    assert "\u202e" not in html
    assert render_markdown("x\x07").html == '<p dir="ltr">x<span class="control">BEL</span></p>'


# Bounds


BOMBS = {
    "nested quotations": ">" * 64_000,
    "nested lists": "".join(" " * (2 * depth) + "- a\n" for depth in range(200)),
    "list markers": "- " * 32_000,
    "brackets": "[" * 64_000,
    "open links": "[a](" * 16_000,
    "open angle links": "[a](<b" * 10_000,
    "images": "![" * 32_000,
    "emphasis": "*a **a " * 9_000,
    "mixed emphasis": "a**b" + "c* " * 21_000,
    "100 kB of stars": "*" * 100_000,
    "backticks": "".join("e" + "`" * count for count in range(340)),
    "code spans": "`a" * 32_000,
    "wide table": "|a" * 500 + "|\n" + "|-" * 500 + "|\n" + "|\n" * 20_000,
    "long table": "|a|b|\n|-|-|\n" + "|x|y|\n" * 10_000,
    "entities": "&#x" * 21_000,
    "autolinks": "<http:" * 10_000,
    "dollars": "$a " * 21_000,
    "open formulas": "\\[a\n" * 16_000,
    "environments": "\\begin{align}\n" * 4_500,
    "headings": "# a\n" * 16_000,
    "controls": "\x01a" * 32_000,
    "code: java": "```java\n" + "a " * 14_000 + "\n```",
    "code: scala": "```scala\n" + "a[" * 14_000 + "\n```",
    "code: html": "```html\n" + "<a " * 9_000 + "\n```",
    "many code blocks": "```python\nx=1\n```\n" * 3_000,
    "5 MB": "x" * 5_000_000,
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_ends_and_the_next_text_is_rendered(name: str) -> None:
    """Within what the renderer allows itself, a slow start of the child included; without bounds some take minutes."""
    begun = time.monotonic()
    rendered = render_markdown(BOMBS[name])
    following = render_markdown(f"after *{name}*")
    assert time.monotonic() - begun < BATCH_SECONDS + START_SECONDS
    assert following.html == f'<p dir="ltr">after <em>{name}</em></p>'
    assert len(rendered.html) < max(1_100_000, 1.1 * len(BOMBS[name]))
    assert not rendered.is_plain or rendered.text == show_controls(BOMBS[name]).replace("⟦", "").replace("⟧", "")


def test_a_slate_of_bombs_keeps_its_good_texts_and_ends() -> None:
    """Heavy ones cost a second each; what is not reached in three is plain for once, and rendered the next time."""
    heavy = [f"{number}\n" + "\\[a\n" * 15_000 for number in range(5)]
    begun = time.monotonic()
    first = render_many(["*good*", *heavy, "*last*"])
    assert time.monotonic() - begun < BATCH_SECONDS + START_SECONDS
    assert [rendered.is_plain for rendered in first] == [False, *[True] * 6]
    assert render_many([heavy[0], "*last*"])[1].html == '<p dir="ltr"><em>last</em></p>'


def test_plain_text_keeps_every_character_and_says_that_it_is_plain() -> None:
    text = "<b>&amp;\n\n  two  spaces\u202e\r\nend" + " x" * 40_000
    rendered = render_markdown(text)
    assert rendered.is_plain
    assert rendered.html.startswith(
        '<div class="plain" dir="auto">&lt;b&gt;&amp;amp;\n\n  two  spaces<span class="bidi">RLO</span>\nend x x'
    )
    assert check(rendered.html, text=rendered.text) == []


def test_a_text_that_ended_the_child_is_remembered_and_one_that_only_waited_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers: list[list[renderer._Answer]] = [
        [renderer._Failure("heavy"), renderer._Failure("late", is_makeshift=True)],
        [("<p>late</p>", "late")],
    ]
    asked: list[list[str]] = []

    def render(texts: list[str]) -> list[renderer._Answer]:
        asked.append(texts)
        return answers[len(asked) - 1]

    monkeypatch.setattr(renderer._renderer, "render", render)
    assert [rendered.is_plain for rendered in render_many(["heavy", "late"])] == [True, True]
    assert [rendered.html for rendered in render_many(["heavy", "late", "heavy"])][1] == "<p>late</p>"
    render_many(["late", "heavy"])
    assert asked == [["heavy", "late"], ["late"]]


def test_the_same_text_is_rendered_once_and_the_cache_stays_within_its_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renderer, "CACHED_TEXTS", 3)
    render_many([f"text {number}" for number in range(5)])
    assert len(renderer._cache._results) == 3
    monkeypatch.setattr(renderer, "CACHED_BYTES", 4_000)
    for number in range(10):
        render_markdown(f"{number}" * 300)
    assert renderer._cache._bytes <= 4_000
    assert 0 < len(renderer._cache._results) <= 3
    sent: list[list[str]] = []
    ask = renderer._Child.ask

    def ask_and_note(child: renderer._Child, texts: list[str]) -> None:
        sent.append(texts)
        ask(child, texts)

    monkeypatch.setattr(renderer._Child, "ask", ask_and_note)
    monkeypatch.setattr(renderer, "CACHED_BYTES", 1_000_000)
    render_many(["a", "b", "a"])
    render_many(["b", "c", "a"])
    assert sent == [["a", "b"], ["c"]]


# The child


def child_of(owner: renderer._Renderer) -> renderer._Child:
    assert owner._child is not None
    return owner._child


def test_the_child_has_limits_and_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "the secret")
    monkeypatch.setenv("DATABASE_URL", "postgres://name:password@host/db")
    renderer._renderer.close()
    render_markdown("a new child")
    pid = child_of(renderer._renderer)._process.pid
    environment = dict(
        line.split("=", 1) for line in Path(f"/proc/{pid}/environ").read_text().split("\0") if "=" in line
    )
    assert set(environment) == {"PYTHONPATH", "PYTHONUTF8", "LC_ALL"}
    limits = {line[:25].strip(): line[25:].split()[:2] for line in Path(f"/proc/{pid}/limits").read_text().split("\n")}
    assert limits["Max address space"] == ["536870912", "536870912"]
    assert limits["Max cpu time"] == ["600", "600"]
    assert limits["Max core file size"] == limits["Max file size"] == ["0", "0"]
    modules = "import sys, annotation.rendering.child; print({'django.db', 'config.settings'} & set(sys.modules))"
    printed = subprocess.run(
        [sys.executable, "-P", "-c", modules], env=renderer._environment(), cwd="/", capture_output=True, text=True
    )
    assert printed.stdout == "set()\n"


def test_a_killed_child_is_replaced_and_the_text_in_hand_is_tried_again() -> None:
    render_markdown("first")
    child = child_of(renderer._renderer)
    os.kill(child._process.pid, signal.SIGKILL)
    assert render_many(["*second*", "third"])[0].html == '<p dir="ltr"><em>second</em></p>'
    assert child_of(renderer._renderer) is not child


def test_a_child_that_cannot_be_started_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    renderer._renderer.close()
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    with pytest.raises(RenderingUnavailable, match=r"could not be started: .*/nonexistent/python"):
        render_markdown("never rendered")
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(RenderingUnavailable, match=r"did not start \(exit status 1\)"):
        render_markdown("never rendered")
    monkeypatch.undo()
    assert not render_markdown("never rendered").is_plain


def test_many_threads_get_their_own_texts_back() -> None:
    wrong: list[str] = []

    def render_some(name: str) -> None:
        for number in range(20):
            texts = [f"{name} {number} {index}" for index in range(4)]
            if [rendered.text for rendered in render_many(texts)] != texts:
                wrong.append(f"{name} {number}")

    threads = [threading.Thread(target=render_some, args=(f"thread{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def run_script(script: str) -> str:
    """A fresh Python process, as a server is one."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=settings.BASE_DIR,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.stderr == ""
    return done.stdout


def test_a_forked_server_has_a_child_of_its_own_and_leaves_its_parents_alone() -> None:
    printed = run_script(
        """
        import os
        from annotation.rendering import renderer, render_markdown
        render_markdown("before")
        ours = renderer._renderer._child._process.pid
        if os.fork() == 0:
            text = render_markdown("in the fork").text
            print(text, renderer._renderer._child._process.pid != ours, flush=True)
            renderer._renderer.close()
            os._exit(0)
        os.wait()
        print(render_markdown("after").text, renderer._renderer._child._process.pid == ours)
        """
    )
    assert printed == "in the fork True\nafter True\n"


def test_the_child_ends_with_its_server_even_where_that_is_killed() -> None:
    """With a fork of the server alive that has never rendered: it must not keep the connection open."""
    printed = run_script(
        """
        import os, signal
        from annotation.rendering import renderer, render_markdown
        render_markdown("before")
        print(renderer._renderer._child._process.pid, flush=True)
        fork = os.fork()
        if fork == 0:
            os.close(1), os.close(2)
            signal.alarm(20)
            signal.pause()
        print(fork, flush=True)
        """
        # a clean exit would close the child itself; this one cannot
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    child, fork = (int(line) for line in printed.split())
    try:
        until = time.monotonic() + 5
        while is_running(child) and time.monotonic() < until:
            time.sleep(0.02)
        assert not is_running(child)
    finally:
        os.kill(fork, signal.SIGKILL)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except FileNotFoundError:
        return False


# Masks


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("As ChatGPT, I cannot.", "⟦masked 1⟧, I cannot."),
        ("I'm **Claude**, made by Anthropic.", "⟦masked 1⟧, made ⟦masked 2⟧."),
        ("i am\n_qwen2.5-72B_ and", "⟦masked 1⟧ and"),
        ("As an AI language model developed by OpenAI, I", "⟦masked 1⟧, I"),
        ("我是通义千问，由阿里云开发。", "⟦masked 1⟧，⟦masked 2⟧开发。"),
        ("我是ChatGPT。", "⟦masked 1⟧。"),
        ("我是 Qwen2.5。", "⟦masked 1⟧。"),
        ("我叫通义千问。", "⟦masked 1⟧。"),
        ("This is Gemini speaking.", "⟦masked 1⟧ speaking."),
        ("I am a model, trained by Google.", "I am a model, ⟦masked 1⟧."),
        ("Claude Monet was as grokked as Bard's Stratford.", "Claude Monet was as grokked ⟦masked 1⟧'s Stratford."),
        ("Miami Claudette, basil Bardot", "Miami Claudette, basil Bardot"),
        ("What is ChatGPT?", "What is ChatGPT?"),
    ],
)
def test_the_default_patterns_cover_who_speaks_and_not_who_is_spoken_of(text: str, masked: str) -> None:
    assert mask(text, patterns=DEFAULT_PATTERNS).text == masked


@pytest.mark.parametrize(
    ("pattern", "text", "covered"),
    [
        ("by * team", "by the Qwen team. by a. team", ("by the Qwen team",)),
        ("by * team", f"by {'x' * 41} team", ()),
        ("by * team", "by\nteam", ()),
        ("made by *", "made by GPT v1.5 people, who", ("made by GPT v1.5 people",)),
        ("GPT-*", "GPT-4.1-mini works", ("GPT-4.1-mini",)),
        ("don't", "Don’t and don't", ("Don’t", "don't")),
        ("a.b (c)", "a.b (c) axb (c)", ("a.b (c)",)),
        ("ab", "ab cab abc AB _ab_ 中ab文", ("ab", "AB", "ab", "ab")),
        ("İx", "İX ix", ("İX", "ix")),
    ],
)
def test_patterns_are_phrases_of_whole_words(pattern: str, text: str, covered: tuple[str, ...]) -> None:
    assert mask(text, patterns=[pattern]).covered == covered


@hypothesis_settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.sampled_from([*"ab *_⟦⟧12.\n'", "masked ", "⟦masked 1⟧", "I am ", "Claude", "İ"]) | st.text(max_size=2)
    ),
    st.lists(st.sampled_from(["a", "a * b", "I am *", "masked 1", "b*", "b a", "claude"]), max_size=4),
)
def test_what_was_masked_comes_back(pieces: list[str], patterns: list[str]) -> None:
    text = "".join(pieces)
    masked = mask(text, patterns=patterns)
    assert unmask(masked.text, covered=masked.covered) == text


def test_marks_survive_an_edit() -> None:
    masked = mask("I am Qwen, by Alibaba.", patterns=["I am Qwen", "by Alibaba"])
    assert masked.covered == ("I am Qwen", "by Alibaba")
    assert unmask("⟦masked 2⟧! ⟦masked 1⟧ ⟦masked 3⟧ ⟦masked 0⟧ masked 1", covered=masked.covered) == (
        "by Alibaba! I am Qwen ⟦masked 3⟧ ⟦masked 0⟧ masked 1"
    )


def test_matches_that_overlap_leave_nothing_between_them() -> None:
    masked = mask("As Qwen, made by Alibaba. Yes.", patterns=["As Qwen", "Qwen, made by Alibaba"])
    assert (masked.text, masked.covered) == ("⟦masked 1⟧. Yes.", ("As Qwen, made by Alibaba",))


PHRASES = ["As Qwen", "Qwen", "by Alibaba", "Alibaba", "masked", "masked 1"]


@hypothesis_settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from([*PHRASES, "⟦masked 1⟧", "⟦masked 40⟧", " ", ", ", "x"]), max_size=12),
    st.lists(st.sampled_from(PHRASES), min_size=1, max_size=6),
    st.lists(st.one_of(st.integers(1, 14), st.sampled_from([*PHRASES, "⟦", "⟧", " ", "x"])), max_size=12),
)
def test_what_was_covered_is_covered_wherever_it_stands(
    pieces: list[str], patterns: list[str], corrected: list[int | str]
) -> None:
    """A correction repeats marks, drops them, and holds phrases; phrases are parts of others, and of marks."""
    covered = mask("".join(pieces), patterns=patterns).covered
    written = "".join(f"⟦masked {piece}⟧" if isinstance(piece, int) else piece for piece in corrected)
    stored = unmask(written, covered=covered)
    again = remask(stored, covered=covered)
    assert unmask(again, covered=covered) == stored
    assert not [phrase for phrase in covered if phrase in MARK.sub("\0", again)]


@pytest.mark.parametrize(
    ("covered", "stored", "again"),
    [
        (["As Qwen"], "As Qwen, yes. As Qwen, no.", "⟦masked 1⟧, yes. ⟦masked 1⟧, no."),
        (["Q", "x", "Q"], "Q Q Q x", "⟦masked 1⟧ ⟦masked 3⟧ ⟦masked 3⟧ ⟦masked 2⟧"),
        (["Qwen", "As Qwen"], "As Qwen: Qwen", "⟦masked 2⟧: ⟦masked 1⟧"),
        (["⟦masked 7⟧", "masked"], "⟦masked 7⟧ masked", "⟦masked 1⟧ ⟦masked 2⟧"),
        ([], "As Qwen", "As Qwen"),
    ],
    ids=["twice", "equal ones in turn", "a part of another", "a mark", "nothing"],
)
def test_what_was_covered_is_covered_again(covered: list[str], stored: str, again: str) -> None:
    assert remask(stored, covered=covered) == again


def test_a_mask_is_shown_as_one_wherever_it_falls() -> None:
    """In text, emphasis, code, coloured code, a link's text, an address and a formula, with its number in the text."""
    text = "Q *Q* `Q` [Q](https://a.test) [x](https://Q.test) $Q$\n\n```python\ndef Q(): return 'Q' # Q\n```"
    masked = mask(text, patterns=["Q"])
    rendered = render_markdown(masked.text)
    assert len(masked.covered) == 9
    assert [f'<span class="mask">⟦masked {number}⟧</span>' in rendered.html for number in range(1, 10)] == [True] * 9
    assert unmask(rendered.text, covered=masked.covered).count("Q") == 9


def test_patterns_that_cannot_be_used_are_named() -> None:
    for patterns, message in (
        (["x"] * 201, "There are more than 200 phrases to mask."),
        (["y" * 201], f"“{'y' * 40}…” is longer than 200 characters."),
        (["ok", "* *"], "“* *” has no word in it."),
        (["* by"], "“* by” begins with *: a phrase begins with a word."),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            check_patterns(patterns)
    check_patterns(DEFAULT_PATTERNS)


@pytest.mark.parametrize(
    ("text", "patterns"),
    [
        ("i am " * 13_000, ["i am * claude x"]),
        ("a" * 64_000, ["a*b*c*a*"]),
        ("a " * 32_000 + "claude", ["a * " * 40 + "claude"]),
        ("i am " + "*" * 64_000 + "claude", DEFAULT_PATTERNS),
        ((" ".join(DEFAULT_PATTERNS).replace("*", "") + " ") * 20, DEFAULT_PATTERNS),
    ],
)
def test_no_text_makes_masking_slow(text: str, patterns: list[str]) -> None:
    begun = time.process_time()
    mask(text, patterns=patterns)
    assert time.process_time() - begun < 2


# Templates and files


def test_the_filters() -> None:
    template = Template(
        '{% load rendering %}<title>{{ name|visible }}</title><div class="md">{{ text|markdown }}</div>'
    )
    html = template.render(Context({"name": "<a>\u202e", "text": "*x* <b>"}))
    assert html == '<title>&lt;a&gt;⟦RLO⟧</title><div class="md"><p dir="ltr"><em>x</em> &lt;b&gt;</p></div>'
    assert (
        Template("{% load rendering %}[{{ none|markdown }}{{ none|visible }}]").render(Context({"none": None})) == "[]"
    )


def test_katex_is_whole_and_works_with_hashed_names(tmp_path: Path) -> None:
    """Every address in its stylesheet is a file that is there, so that a manifest storage can rewrite it."""
    folder = finders.find("annotation/vendor/katex")
    assert isinstance(folder, str)
    files = {path.relative_to(folder).as_posix(): path for path in Path(folder).rglob("*") if path.is_file()}
    assert {"katex.min.js", "katex.min.css", "LICENSE"} < set(files)
    storage = ManifestStaticFilesStorage(location=str(tmp_path), base_url="/static/")
    for name, path in files.items():
        storage.save(name, ContentFile(path.read_bytes()))
    processed = list(storage.post_process({name: (storage, name) for name in files}))
    assert [error for _old, _new, error in processed if isinstance(error, Exception)] == []
    css = next(new for old, new, _done in reversed(processed) if old == "katex.min.css")
    written = (tmp_path / str(css)).read_text()
    assert written.count("url(") == sum(name.endswith(".woff2") for name in files)
    assert "http" not in written
