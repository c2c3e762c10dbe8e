"""The advisor's sentences, named here so that they can be translated.

The library knows no translation; its reports carry each sentence with places for figures, and `say` looks it up. A test
holds the two together.
"""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, gettext_noop

FIGURES = {
    "prompts": gettext_lazy("prompts"),
    "labelled": gettext_lazy("right answers that can be used"),
    "unusable": gettext_lazy("answers that cannot be used: empty, said twice, or refused by their own verifier"),
    "worked": gettext_lazy("right answers that show their reasoning"),
    "preferences": gettext_lazy("comparisons by people"),
}
"""Counts of the evidence, by their names in a report."""
SHARES = {
    "checked": gettext_lazy("prompts with a verifier"),
    "references": gettext_lazy("right answers that their verifier accepts"),
    "strangers": gettext_lazy("answers to other prompts that a verifier accepts"),
    "agreement": gettext_lazy("pairs judged more than once on which all agree"),
}
"""Shares of the evidence, by their names in a report."""
SENTENCES = (
    gettext_noop("Are there right answers?"),
    gettext_noop("Can a program check the answers?"),
    gettext_noop("Are there more than enough of them?"),
    gettext_noop("Does thinking aloud help?"),
    gettext_noop("Is there enough reasoning to imitate?"),
    gettext_noop("yes from %(some)s rows on"),
    gettext_noop("yes above %(many)s rows"),
    gettext_noop("yes where a model is right more often when it thinks aloud"),
    gettext_noop("yes from %(few)s rows on that show it"),
    gettext_noop(
        "yes where %(checkable)s of the prompts carry a verifier, verifiers accept %(checkable)s of the right answers, "
        "and at most %(fooled)s of answers to other prompts"
    ),
    gettext_noop("%(labelled)s of %(prompts)s prompts have a right answer that can be used"),
    gettext_noop("%(n)s more are empty, said twice or refused by their own verifier"),
    gettext_noop("%(n)s more rows with right answers would count as labels"),
    gettext_noop("there are no prompts"),
    gettext_noop("prompts with verifiers"),
    gettext_noop("right answers to try the verifiers on"),
    gettext_noop("more right answers to try the verifiers on"),
    gettext_noop("a verifier for more of the prompts, or one that tells right from wrong more often"),
    gettext_noop("%(n)s of %(total)s prompts carry a verifier"),
    gettext_noop("verifiers accept %(n)s of %(total)s right answers"),
    gettext_noop("they accept %(n)s of %(total)s answers to other prompts"),
    gettext_noop("%(n)s labelled rows, where more than %(many)s are plenty"),
    gettext_noop("%(n)s more labelled rows, and SFT needs no other reason"),
    gettext_noop("a trial of thinking aloud with a model, on prompts with verifiers"),
    gettext_noop("not measured, and taken for no"),
    gettext_noop(
        "on %(prompts)s prompts %(aloud)s were right thinking aloud and %(direct)s directly: %(gain)s "
        "(%(low)s to %(high)s)"
    ),
    gettext_noop("a trial on more prompts"),
    gettext_noop("a trial with a model that is right now and then, or with longer answers"),
    gettext_noop("%(n)s labelled rows show their reasoning, where %(few)s are enough to imitate"),
    gettext_noop("%(n)s more rows that show how the answer is found"),
    gettext_noop(
        "There are %(n)s comparisons; a reward model needs %(preferences)s or more. Have people rank responses first."
    ),
    gettext_noop(
        "People agree on %(n)s of %(total)s pairs judged more than once (%(share)s, %(low)s to %(high)s); "
        "no reward model can agree with them more often."
    ),
    gettext_noop("%(n)s rows teach a form at most; more right answers would help first."),
    gettext_noop("Supervised fine-tuning"),
    gettext_noop("Reinforced fine-tuning with verifiers"),
    gettext_noop("Reinforcement learning from human feedback"),
    gettext_noop("right answers to imitate, best in the thousands"),
    gettext_noop("format, tone, knowledge that the answers hold; no better than they are"),
    gettext_noop("none while training: the answers must be right"),
    gettext_noop("a first model of a task, a house style, an extraction"),
    gettext_noop("prompts, and a program that tells right from wrong; few or no answers"),
    gettext_noop("reasoning: what the model gets right now and then, it gets right more often"),
    gettext_noop("a verifier on every attempt: mathematics, code, constraints, logic"),
    gettext_noop("mathematics, code, queries, structured output"),
    gettext_noop("people's choices between responses, best in the thousands"),
    gettext_noop("what people prefer but cannot write down: helpfulness, tact, safety"),
    gettext_noop("people, and a reward model that learned from them"),
    gettext_noop("assistants, summaries, creative writing"),
)


def say(sentence: dict[str, Any]) -> str:
    """A sentence {text, values} of a report in the reader's language."""
    values = sentence.get("values")
    return _(sentence["text"]) % values if values else _(sentence["text"])
