"""The training library's words on the settings that forms show, named here so that they can be translated.

The library knows no translation; `field_of` looks its sentences up. A test holds the two together.
"""

from __future__ import annotations

from django.utils.translation import gettext_noop

HELP_TEXTS = (
    gettext_noop(
        "All pairs of a prompt's responses; davidson and rao-kupper use ties; plackett-luce needs strict orders; "
        "ratings learns named scales from rated responses."
    ),
    gettext_noop("sigmoid is the loss of the DPO paper; simpo needs no reference."),
    gettext_noop("Probability that a judgement is the wrong way round (conservative BT)."),
    gettext_noop("Probability that a judgement is the wrong way round; unset: 0.1 for robust, else 0."),
    gettext_noop("Rank of the LoRA matrices."),
    gettext_noop("Batches to an optimizer step."),
    gettext_noop("lora trains adapters, merged at the end."),
    gettext_noop("lora trains adapters, merged at the end; head fits the linear head alone, on states read once."),
    gettext_noop("Peak learning rate; unset: a default of the method and tuning."),
    gettext_noop("Passes over the training rows."),
    gettext_noop("Optimizer steps; overrides epochs."),
    gettext_noop("Pairs of a step, on all devices together; gradient_accumulation multiplies them."),
    gettext_noop("Rows that each device reads at once; gradient_accumulation such readings make a step."),
    gettext_noop("Tokens of prompt and response together; what is longer is dropped and counted."),
    gettext_noop("Stop after so many validation losses without a better one, and keep the best weights; unset: never."),
    gettext_noop("Seed of everything random in the run."),
    gettext_noop("bfd: rows of max_length filled with whole conversations that do not see each other (best fit)."),
    gettext_noop("Strength of the pull towards the reference; unset: 0.1, for simpo 2."),
    gettext_noop("Strength of the pull towards the reference model."),
    gettext_noop("Rows that each device reads at once; the KL term is estimated within those of all devices."),
    gettext_noop("Rounds of sampling, selecting and training."),
    gettext_noop("Attempts a prompt gets at a time."),
    gettext_noop("Attempts a prompt gets a round at most: hard prompts get more than easy ones."),
    gettext_noop("Different accepted attempts after which a prompt gets no more; null: all get max_samples."),
    gettext_noop("Accepted attempts that are learned of one prompt at most."),
    gettext_noop("Which of a prompt's accepted attempts: the shortest, most diverse, most probable, or first."),
    gettext_noop("What a round trains: base, the model of the beginning (STaR, ReST-EM), or the last round's."),
    gettext_noop("Longest attempt; what does not end by then is not learned."),
    gettext_noop("Temperature of the attempts."),
    gettext_noop("Passes over what was accepted, a round."),
    gettext_noop("Rows of a step."),
    gettext_noop("Responses a prompt."),
    gettext_noop("Longest response in tokens."),
    gettext_noop("0: greedy, the likeliest token each time."),
    gettext_noop("Sample from the likeliest tokens that hold this mass."),
    gettext_noop("Responses scored at once."),
    gettext_noop("Prompts that the model answers in either way."),
    gettext_noop("Longest answer in tokens; too low speaks against thinking."),
    gettext_noop("Right answers above which there are plenty."),
    gettext_noop("Right answers that show their reasoning, enough to imitate it."),
    gettext_noop("Right answers below which there are as good as none."),
    gettext_noop("Share of prompts with a verifier, and of right answers that it accepts."),
    gettext_noop("Share of answers to other prompts that a verifier may accept."),
    gettext_noop("Comparisons that a reward model needs at least."),
)
