"""The Simplified Chinese interface: complete, compiled, every placeholder in its place, shown to who chose it."""

from __future__ import annotations

import ast
import os
import re
import shutil
import struct
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.test import Client
from django.urls import reverse

from annotation import runner
from annotation.domain.assigning import claim_slot
from annotation.forms.run_helps import HELP_TEXTS
from annotation.views.advice_words import SENTENCES
from rewardmodel import advisor
from rewardmodel.advisor import Evidence
from tests.annotation.factories import make_member, make_project, make_slate
from tests.views.test_advice import give_advice

CATALOGUE = Path(settings.LOCALE_PATHS[0]) / "zh_Hans" / "LC_MESSAGES"
HOW_TO_MEND = (
    "Run `manage.py makemessages -l zh_Hans -i .venv -i tests --no-location`, translate, and then "
    "`manage.py compilemessages -l zh_Hans -i .venv`."
)
PLACEHOLDER = re.compile(r"%\(\w+\)[sd]|%%|\{\w+\}|</?\w+[^>]*>")
CHINESE = re.compile(r"[\u4e00-\u9fff]")
MO_MAGIC = 0x950412DE


@dataclass
class Entry:
    """One message of a .po: its English forms (two where there is a plural) and what they became.

    A context stands before the first form, parted from it by \\x04 as in a .mo.
    """

    ids: list[str] = field(default_factory=list)
    translations: list[str] = field(default_factory=list)
    flags: set[str] = field(default_factory=set)


def read_po(text: str) -> list[Entry]:
    """The entries of a .po without its header and its obsolete lines; what is not known here raises."""
    entries = []
    for block in re.split(r"\n\s*\n", text):
        entry, context, current = Entry(), [], None
        for line in block.splitlines():
            if line.startswith("#,"):
                entry.flags |= {flag.strip() for flag in line[2:].split(",")}
            if line.startswith("#") or not line.strip():
                continue
            parts = re.fullmatch(r'(?:(msgctxt|msgid|msgid_plural|msgstr(?:\[\d\])?) )?(".*")', line)
            assert parts is not None, f"not a line this reader knows: {line}"
            if parts[1]:
                known = {"msgctxt": context, "msgid": entry.ids, "msgid_plural": entry.ids}
                current = known.get(parts[1], entry.translations)
                current.append("")
            assert current is not None, f"a string before any keyword: {line}"
            current[-1] += ast.literal_eval(parts[2])
        if context:
            entry.ids[0] = f"{context[0]}\x04{entry.ids[0]}"
        if entry.ids and entry.ids != [""]:
            entries.append(entry)
    return entries


def read_mo(path: Path) -> dict[tuple[str, ...], list[str]]:
    """The entries of a .mo without its header; see "The Format of GNU MO Files" in the manual of gettext."""
    data = path.read_bytes()
    magic, _revision, count, ids_at, translations_at = struct.unpack_from("<5I", data)
    assert magic == MO_MAGIC

    def strings(table: int, index: int) -> list[str]:
        length, offset = struct.unpack_from("<2I", data, table + 8 * index)
        return data[offset : offset + length].decode().split("\0")

    pairs = [(tuple(strings(ids_at, index)), strings(translations_at, index)) for index in range(count)]
    return {ids: translations for ids, translations in pairs if ids != ("",)}


def chinese() -> list[Entry]:
    return read_po((CATALOGUE / "django.po").read_text(encoding="utf-8"))


@pytest.mark.skipif(
    not all(shutil.which(tool) for tool in ("xgettext", "msguniq", "msgmerge", "msgattrib")),
    reason="GNU gettext is not installed",
)
def test_every_string_of_the_interface_is_translated(tmp_path: Path) -> None:
    copy, root = tmp_path / "copy", Path(settings.BASE_DIR)
    for room in ("annotation", "config", "rewardmodel", "templates"):
        shutil.copytree(root / room, copy / room, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(root / "manage.py", copy)
    subprocess.run(
        [sys.executable, "manage.py", "makemessages", "-l", "zh_Hans", "--no-location"],
        cwd=copy,
        env=os.environ | {"DATA_DIR": str(tmp_path / "data"), "PYTHONDONTWRITEBYTECODE": "1"},
        check=True,
        capture_output=True,
        timeout=120,
    )
    merged = copy / (CATALOGUE / "django.po").relative_to(root)
    entries = read_po(merged.read_text(encoding="utf-8"))
    wanting = [entry.ids[0] for entry in entries if "fuzzy" in entry.flags or not all(entry.translations)]
    assert wanting == [], HOW_TO_MEND
    assert len(entries) > 300


def test_the_compiled_catalogue_holds_exactly_the_written_one() -> None:
    written = {tuple(entry.ids): entry.translations for entry in chinese()}
    assert read_mo(CATALOGUE / "django.mo") == written, HOW_TO_MEND


def test_no_entry_is_empty_fuzzy_or_twice_and_chinese_has_one_plural_form() -> None:
    entries = chinese()
    assert [entry.ids[0] for entry in entries if "fuzzy" in entry.flags or not all(entry.translations)] == []
    assert [entry.ids[0] for entry in entries if len(entry.translations) != 1] == []
    assert [ids for ids, count in Counter(tuple(entry.ids) for entry in entries).items() if count > 1] == []


def test_placeholders_and_markup_are_the_same_on_both_sides() -> None:
    differing = [
        (text, translation)
        for entry in chinese()
        for text in entry.ids
        for translation in entry.translations
        if Counter(PLACEHOLDER.findall(text)) != Counter(PLACEHOLDER.findall(translation))
    ]
    assert differing == []


def test_the_catalogue_names_no_person_and_no_machine_and_does_not_shout() -> None:
    text = (CATALOGUE / "django.po").read_text(encoding="utf-8")
    assert '"Project-Id-Version: Preferee\\n"' in text
    assert re.findall(r"\w@[\w-]+\.\w|Last-Translator.*|^#: .*", text, flags=re.MULTILINE) == []
    assert [t for entry in chinese() for t in entry.translations if "!" in t or "\uff01" in t] == []


def in_chinese(user: Any = None) -> Client:
    """A client whose reader has chosen Chinese."""
    client = Client()
    client.cookies[settings.LANGUAGE_COOKIE_NAME] = "zh-hans"
    if user is not None:
        client.force_login(user)
    return client


def read_page(client: Client, address: str) -> str:
    """The page, once it is certain that it is Chinese and that no placeholder was left unfilled."""
    answer = client.get(address)
    assert answer.status_code == 200
    page = answer.content.decode()
    assert '<html lang="zh-hans">' in page
    assert CHINESE.search(re.sub(r'<button[^>]* lang="[^>]*>.*?</button>', "", page))
    assert re.findall(r"%\(\w+\)|%%|\{\{|\{%", page) == []
    return page


@pytest.mark.django_db
def test_the_login_page_is_chinese_for_who_chose_it() -> None:
    page = read_page(in_chinese(), reverse("login"))
    for words in ("<h1>登录</h1>", "人来评判模型的回答，模型从中学习。", "密码", "跳到正文"):
        assert words in page
    assert "Sign in" not in page


@pytest.mark.django_db
def test_the_project_page_is_chinese_with_its_numbers_filled_in() -> None:
    project = make_project()
    admin = make_member(project, role="admin")
    make_slate(project)
    page = read_page(in_chinese(admin.user), reverse("project_detail", kwargs={"slug": project.slug}))
    for words in ("概览", "下一步做什么", "个席位已排序；1 个回答组中有 0 个已完成。", "0 个模型 · 0 个分数", "管理员"):
        assert words in page


@pytest.mark.django_db
def test_the_ranking_page_is_chinese_and_keeps_the_placeholders_its_script_fills() -> None:
    project = make_project()
    annotator = make_member(project)
    make_slate(project)
    assert claim_slot(annotator) is not None
    page = read_page(in_chinese(annotator.user), reverse("rank", kwargs={"slug": project.slug}))
    for words in ('data-say-placed="回答 {letter}：第 {tier} 档"', "今日 0 组 · 剩余 1 组", "均不合格", "回答 A"):
        assert words in page


@pytest.mark.django_db
def test_the_page_of_advice_is_chinese_with_its_figures_in_the_sentences() -> None:
    """50 right answers, no trial: the way is said, and every sentence of the library on it is Chinese."""
    project = make_project()
    engineer = make_member(project, role="engineer")
    make_slate(project)
    give_advice(project, Evidence(prompts=400, labelled=50))
    page = read_page(in_chinese(engineer.user), reverse("advice", kwargs={"slug": project.slug}))
    for words in ("有正确答案吗？ <strong>是</strong>", "400 个提示中有 50 个带有可用的正确答案", "未测量，按“否”处理",
                  "达到 10 行为“是”", "50 行最多只能教会形式", "监督微调"):  # fmt: skip
        assert words in page


@pytest.mark.django_db
def test_other_readers_get_english() -> None:
    page = Client().get(reverse("login")).content.decode()
    assert '<html lang="en">' in page
    assert "<h1>Sign in</h1>" in page


def test_what_the_advisor_says_can_be_translated() -> None:
    """Every sentence of the advisor is among those that are translated, and no other is."""
    tree = ast.parse(Path(advisor.__file__).read_text(encoding="utf-8"))
    said = {
        node.args[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("say", "Question")
        and isinstance(node.args[0], ast.Constant)
    }
    compared = {text for row in advisor.COMPARISON for name, text in row.items() if name != "method"}
    assert set(SENTENCES) == said | compared
    assert len(SENTENCES) == len(set(SENTENCES))


def test_what_the_library_says_of_its_settings_can_be_translated() -> None:
    """Every sentence beside a field of a run form is among those that are translated, and no other is."""
    shown = {description.help for method in runner.PERSON_FIELDS for description in runner.form_fields(method)}
    assert set(HELP_TEXTS) == shown
