"""Every payload of the corpus in every text that somebody may write, on every page that shows it: nothing runs.

No dialog, no script of theirs, no request but to this server's own pages and files, an empty report of the content
security policy, and no character that turns text around left unseen.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page

from annotation.domain.assigning import claim_slot
from annotation.domain.guidelines import mark_read
from annotation.domain.judgement import Judgement
from annotation.domain.projects import publish_guidelines, set_member
from annotation.domain.ranking import submit_ranking
from annotation.domain.slating import SlatePlan, make_slates
from annotation.models import Membership, Project, Prompt, Ranking, Response
from annotation.rendering.controls import BIDI
from tests.annotation.factories import make_member, make_project, make_user
from tests.xss_corpus import CHARACTERS, HTML, PAYLOADS, TEX

OpenPage = Callable[..., Page]
SIZE = 9
# An import refuses NUL, so none can be stored.
TEXTS = [text.replace("\0", "") for _name, text in PAYLOADS]
GROUPS = [TEXTS[start : start + SIZE] for start in range(0, len(TEXTS), SIZE)]
NAMES = [text[:120] for text in TEXTS]

WATCH = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => {
  window.violations.push(`${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`);
});
"""
FINDINGS = """async (bidi) => {
  if (document.querySelector(".math")) {
    for (let tries = 0; tries < 40 && !globalThis.katex; tries += 1) await new Promise((done) => setTimeout(done, 25));
  }
  await new Promise((done) => setTimeout(done, 20));
  const found = [...window.violations];
  if (window.pwned !== undefined) found.push("window.pwned is set");
  const foreign = (address) => address && new URL(address, location).origin !== location.origin;
  for (const node of document.querySelectorAll("*")) {
    if (/^(iframe|object|embed|base|video|audio|applet|frame)$/i.test(node.localName)) found.push(node.localName);
    for (const { name, value } of node.attributes) {
      const isLoaded = /^(src|srcset|action|formaction|data|poster|background)$/.test(name);
      const isBad =
        name.startsWith("on")
        || (isLoaded && foreign(value))
        || (/^(xlink:)?href$/.test(name) && !/^(https?:|mailto:|[/#?])/i.test(value))
        || (name === "href" && node.localName !== "a" && foreign(value))
        || (/^(data-)?hx-/.test(name) && node.closest(".md"));
      if (isBad) found.push(`<${node.localName} ${name}="${value}">`);
    }
  }
  for (const id of ["main", "ranking", "slate"]) {
    if (document.querySelectorAll(`[id=${id}]`).length > 1) found.push(`two #${id}`);
  }
  const turning = new RegExp(`[${bidi}]`);
  if (turning.test(document.title)) found.push("a title with bidirectional controls");
  const texts = document.createTreeWalker(document.documentElement, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const node = texts.currentNode;
    if (node.parentElement.closest("textarea, template, script")) continue; // sources, as they are sent back
    if (turning.test(node.data)) found.push(`unseen in <${node.parentElement.localName}>: ${node.data.slice(0, 60)}`);
  }
  return found;
}"""


@dataclass
class Watched:
    """A page, and whatever it did that it should not have done."""

    page: Page
    origin: str
    found: list[str] = field(default_factory=list)
    bidi_seen: int = 0

    def __post_init__(self) -> None:
        self.page.add_init_script(WATCH)
        self.page.on("dialog", self._on_dialog)
        self.page.on("request", lambda request: self._on_request(request.url))
        self.page.context.on("page", lambda opened: self.found.append(f"a window: {opened.url}"))

    def _on_dialog(self, dialog: Any) -> None:
        self.found.append(f"a dialog: {dialog.message}")
        dialog.dismiss()

    def _on_request(self, url: str) -> None:
        parts = urlsplit(url)
        if f"{parts.scheme}://{parts.netloc}" != self.origin or "pwned" in url:
            self.found.append(f"a request: {url}")

    def visit(self, path: str) -> None:
        response = self.page.goto(path)
        findings = self.page.evaluate(FINDINGS, "".join(BIDI))
        assert response is not None
        status = [] if response.status == 200 else [f"status {response.status}"]
        moved = [] if urlsplit(self.page.url)[2:4] == urlsplit(self.origin + path)[2:4] else [f"at {self.page.url}"]
        self.found += [f"{path}: {finding}" for finding in [*status, *moved, *findings]]
        self.bidi_seen += self.page.locator(".bidi").count()


@pytest.fixture
def watch(open_page: OpenPage, live_server: Any) -> Iterator[Callable[[Membership], Watched]]:
    """watch(member) is a watched page; at the end none may have found anything."""
    pages: list[Watched] = []

    def watch_one(member: Membership) -> Watched:
        pages.append(Watched(open_page(member.user), live_server.url))
        return pages[-1]

    yield watch_one
    assert sorted({finding for watched in pages for finding in watched.found})[:20] == []


def make_hostile_slate(project: Project, texts: Sequence[str], *, number: int) -> None:
    """Each text is a turn of the prompt (the last one its reference answer) and a response."""
    padded = [*texts, *["filler"] * (SIZE - len(texts))]
    roles = ["system", *["user", "assistant"] * 3, "user"]
    messages = [{"role": role, "content": text} for role, text in zip(roles, padded[:-1], strict=True)]
    prompt = Prompt.objects.create(
        project=project,
        external_id=f"prompt-{number}",
        messages=messages,
        reference=padded[-1],
        content_hash=hashlib.sha256(str(messages).encode()).hexdigest(),
    )
    responses = [
        Response.objects.create(prompt=prompt, external_id=f"r{number}-{index}", text=f"{text}\n\n{index}", source="s")
        for index, text in enumerate(padded)
    ]
    make_slates(project, plans=[SlatePlan(prompt=prompt, external_id=prompt.external_id, responses=responses)])


def rename(project: Project, name: str) -> None:
    Project.objects.filter(pk=project.pk).update(name=name, description=name)


def test_prompts_responses_and_reasons_do_nothing(watch: Callable[[Membership], Watched]) -> None:
    """On the ranking page, when amending, in the history, and to a reviewer on the prompt's page."""
    project = make_project(slug="hostile", slate_size=SIZE)
    rename(project, f"{CHARACTERS[1][1]} </title><script>window.pwned=1</script>")
    for number, group in enumerate(GROUPS):
        make_hostile_slate(project, group, number=number)
    annotator, reviewer = make_member(project), make_member(project, role="reviewer")
    mark_read(annotator, version=1)
    ours = watch(annotator)
    for _group in GROUPS:
        lease = claim_slot(annotator)
        assert lease is not None
        ours.visit("/projects/hostile/rank/")
        assert ours.page.locator(".response .md").count() == SIZE
        shown = [lease.slot.slate.responses.get(pk=pk).text for pk in lease.presented_order]
        said = Judgement(tiers=[[position] for position in range(SIZE)], rationale="\n".join(shown))
        ranking = submit_ranking(annotator, token=lease.token, judgement=said).ranking
        ours.visit(f"/projects/hostile/rankings/{ranking.pk}/amend/")
    assert Ranking.objects.count() == len(GROUPS)
    ours.visit("/projects/hostile/history/")
    ours.visit("/projects/hostile/history/?page=2")
    theirs = watch(reviewer)
    theirs.visit("/projects/hostile/data/")
    for prompt in Prompt.objects.all():
        theirs.visit(f"/projects/hostile/data/{prompt.pk}/")
    assert ours.bidi_seen > 20
    assert theirs.bidi_seen > 20


def test_guidelines_do_nothing(watch: Callable[[Membership], Watched]) -> None:
    """Each version on its page and the project's, where an annotator reads what changed, and in the drawer."""
    project = make_project(slug="hostile", slate_size=2)
    annotator = make_member(project)
    watched = watch(annotator)
    bidi = 0
    for start in range(0, len(TEXTS), 3 * SIZE):
        text = "\n\n---\n\n".join(TEXTS[start : start + 3 * SIZE])
        version = publish_guidelines(project, text=text).version
        watched.visit("/projects/hostile/guidelines/")
        watched.visit("/projects/hostile/")
        watched.visit("/projects/hostile/rank/")
        mark_read(annotator, version=version)
        bidi = watched.bidi_seen
    assert bidi > 0
    make_hostile_slate(project, ["x"] * SIZE, number=1)
    claim_slot(annotator)
    watched.visit("/projects/hostile/rank/")


def test_names_of_projects_do_nothing(watch: Callable[[Membership], Watched]) -> None:
    """All in the list of projects; those that break out of titles, or turn text around, on a project's pages too."""
    user = make_user("owner")
    projects = [make_project() for _name in NAMES]
    members = [set_member(project, user=user, role="admin") for project in projects]
    for project, name in zip(projects, NAMES, strict=True):
        rename(project, name)
    watched = watch(members[0])
    watched.visit("/")
    assert watched.page.locator("main a").count() >= len(NAMES)
    risky = [name for name, _text in HTML if "close" in name or "breakout" in name or "comment" in name]
    risky += [name for name, _text in CHARACTERS]
    names = [name for name, _text in PAYLOADS]
    for index in [names.index(name) for name in risky]:
        watched.visit(f"/projects/{projects[index].slug}/")
    for section in ("rank", "history", "guidelines", "data", "members", "settings", "import", "snapshots"):
        watched.visit(f"/projects/{projects[names.index('bidi-text')].slug}/{section}/")


def test_formulas_are_typeset_and_the_policy_allows_it(watch: Callable[[Membership], Watched]) -> None:
    """What KaTeX styles by attributes (tall brackets) included; what is no TeX, or is masked, stays as written."""
    project = make_project(slug="hostile", slate_size=SIZE)
    tall = "\\[ \\begin{pmatrix} 1 \\\\ 2 \\\\ 3 \\\\ 4 \\\\ 5 \\\\ 6 \\\\ 7 \\end{pmatrix} \\]"
    Project.objects.filter(pk=project.pk).update(mask_patterns=["covered"])
    make_hostile_slate(
        project, [tall, "$x^2$", "$\\frac{1$", "$\\text{covered}$", *[text for _n, text in TEX][:5]], number=1
    )
    annotator = make_member(project)
    mark_read(annotator, version=1)
    claim_slot(annotator)
    watched = watch(annotator)
    watched.visit("/projects/hostile/rank/")
    page = watched.page
    page.wait_for_selector(".response .math.typeset svg", state="attached")
    left = page.locator(".response .math:not(.typeset)").all_inner_texts()
    assert sorted(left) == ["\\frac{1", "\\text{⟦masked 1⟧}"]
    assert page.locator(".response .math.typeset").evaluate_all(
        "all => all.every((one) => one.dataset.tex && !one.querySelector('[data-css], img, a'))"
    )
