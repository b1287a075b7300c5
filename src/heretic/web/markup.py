"""Conversations as HTML for the page. Whatever a model or a person wrote is shown as text: all of it is escaped.

Pure. The page's component takes templates, so braces and dollar signs become codes as well.
"""

import re
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from html import escape

from heretic.common.output import clean
from heretic.observability.events import StepEvent
from heretic.results.trial import shown
from heretic.web.conversation import Answer, Conversation, Source, split_thinking

_TEMPLATE = str.maketrans({"$": "&#36;", "{": "&#123;", "}": "&#125;", "`": "&#96;", "\\": "&#92;"})
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|\w+|\s+|[^\w\s]")
MOST_COMPARED = 4_000
"""Words of two answers that are compared; marking longer ones would take seconds."""


def text(value: str) -> str:
    """Foreign text as HTML that shows it, control characters as codes."""
    return escape(clean(value)).translate(_TEMPLATE)


def marked(first: str, second: str) -> tuple[str, str]:
    """Two texts as HTML, in each the words marked that the other has not at that place."""
    words: tuple[list[str], list[str]] = (_WORD.findall(first), _WORD.findall(second))
    if sum(map(len, words)) > MOST_COMPARED:
        return text(first), text(second)
    columns: tuple[list[str], list[str]] = ([], [])
    matcher = SequenceMatcher(None, words[0], words[1], autojunk=False)
    for kind, *places in matcher.get_opcodes():
        for column, own, start, end in zip(columns, words, places[::2], places[1::2], strict=True):
            part = text("".join(own[start:end]))
            column.append(f"<mark>{part}</mark>" if part and kind != "equal" else part)
    return "".join(columns[0]), "".join(columns[1])


def transcript(conversation: Conversation, writing: bool = False) -> str:
    """A conversation; while an answer is being written, words are not marked yet."""
    if not conversation.turns:
        return '<p class="hint">Write a message below. Answers are those of the model that is loaded.</p>'
    last = len(conversation.turns) - 1
    parts = []
    for place, turn in enumerate(conversation.turns):
        is_written = writing and place == last
        parts.append(
            f'<section class="turn{" writing" if is_written else ""}"><div class="question">{text(turn.question)}</div>'
        )
        parts.append(_answers(turn.answers, mark=not is_written))
        parts.append(_sources(turn.sources))
        parts.append("</section>")
    return "".join(parts)


def _answers(answers: Sequence[Answer], mark: bool) -> str:
    if not answers:
        return ""
    said = [text(answer.said) for answer in answers]
    if mark and len(answers) == 2:
        said = list(marked(answers[0].said, answers[1].said))
    columns = [_answer(answer, body, place) for place, (answer, body) in enumerate(zip(answers, said, strict=True))]
    return f'<div class="answers">{"".join(columns)}</div>'


def _sources(sources: Sequence[Source]) -> str:
    """Links to pages; what a kept conversation names otherwise is shown and leads nowhere."""
    if not sources:
        return ""
    items = []
    for each in sources:
        title = text(each.title)
        if each.address.startswith(("http://", "https://")):
            title = f'<a href="{text(each.address)}" target="_blank" rel="noopener noreferrer nofollow">{title}</a>'
        items.append(f"<li>{title}</li>")
    return f'<div class="sources">Found on the web:<ol>{"".join(items)}</ol></div>'


def _answer(answer: Answer, body: str, place: int) -> str:
    thought = split_thinking(answer.text)[0]
    folded = f"<details><summary>Thinking</summary>{text(thought)}</details>" if thought else ""
    title = f"<h4>{named}</h4>" if (named := answer_title(answer, place)) else ""
    return (
        f'<article class="answer" data-column="{place}">{title}{folded}<div class="said">{body}</div>'
        f"<footer>{facts(answer)}</footer></article>"
    )


def answer_title(answer: Answer, column: int) -> str:
    """Whose answer it is; empty where nothing is compared."""
    if answer.strength is None:
        return ""
    edit = "Edited" if answer.trial is None else f"Trial {shown(answer.trial)}"
    return "Original" if column == 0 else f"{edit}, strength {answer.strength:g}"


def blind(answers: Sequence[Answer]) -> str:
    """Two answers that are to be judged: nothing says whose they are, nor which words differ."""
    columns = (
        f'<article class="answer"><h4>{side}</h4><div class="said">{text(answer.said)}</div></article>'
        for side, answer in zip(("Left", "Right"), answers, strict=True)
    )
    return f'<div class="answers">{"".join(columns)}</div>'


def facts(answer: Answer) -> str:
    """Tokens, speed and context of an answer, and how it ended."""
    speed = f", {answer.tokens / answer.seconds:.1f} tokens/s" if answer.seconds > 0 and answer.tokens else ""
    ends = {"stopped": ", stopped", "length": ", cut at the longest length"}
    used = answer.context + answer.tokens
    return f"{answer.tokens} tokens{speed}, context {used} tokens{ends.get(answer.end, '')}"


def notice(sentence: str, is_error: bool = False) -> str:
    """One sentence under the message; an error is announced to screen readers."""
    if not sentence:
        return ""
    role = "alert" if is_error else "status"
    return f'<p class="notice {role}" role="{role}">{text(sentence)}</p>'


def bar(event: StepEvent) -> str:
    """How far a step is, as a bar that moves where it can be counted."""
    known = f' max="{event.total}" value="{min(event.done, event.total)}"' if event.total else ""
    return f'<p class="notice" role="status">{text(event.told)}</p><progress class="bar"{known}></progress>'


def facts_list(lines: Iterable[tuple[str, str]]) -> str:
    """Names, each with what is to be said of it."""
    items = "".join(f"<li><b>{text(name)}</b>: {text(what)}</li>" for name, what in lines)
    return f'<ul class="facts">{items}</ul>' if items else ""


STYLE = """
.gradio-container { max-width: 1500px !important; margin: 0 auto; }
#transcript { min-height: 120px; color: var(--body-text-color); }
.turn { margin: 0 0 1.2rem; }
.question { background: var(--color-accent-soft); border-radius: var(--radius-lg); padding: .6rem .9rem;
  margin: 0 0 .6rem auto; width: fit-content; max-width: 85%; white-space: pre-wrap; overflow-wrap: anywhere; }
.answers { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); gap: .8rem; }
.answer { background: var(--background-fill-secondary); border: 1px solid var(--border-color-primary);
  border-radius: var(--radius-lg); padding: .6rem .9rem; min-width: 0; }
.answer h4 { margin: 0 0 .4rem; font-size: .9rem; color: var(--body-text-color); }
.answer .said { white-space: pre-wrap; overflow-wrap: anywhere; }
.answer mark { background: var(--color-accent-soft); color: var(--body-text-color); border-radius: 3px;
  text-decoration: underline; text-decoration-color: var(--color-accent); }
.answer footer { margin-top: .5rem; font-size: .8rem; color: var(--body-text-color); opacity: .75; }
.answer details { margin: 0 0 .5rem; color: var(--body-text-color-subdued); white-space: pre-wrap;
  overflow-wrap: anywhere; }
.facts { margin: 0; padding: 0 0 0 1.1rem; color: var(--body-text-color); font-size: .9rem; overflow-wrap: anywhere; }
.notice { margin: .2rem 0; color: var(--body-text-color); }
.notice.alert { border-left: 3px solid var(--error-border-color, currentColor); padding-left: .6rem; }
.bar { width: 100%; height: .6rem; accent-color: var(--color-accent); }
.hint { color: var(--body-text-color-subdued); }
.wide { overflow-x: auto; }
.sources { font-size: .85rem; color: var(--body-text-color-subdued); margin-top: .4rem; overflow-wrap: anywhere; }
.sources ol { margin: .2rem 0 0; padding-left: 1.4rem; }
.front { width: 100%; max-width: 900px; height: auto; }
.front text { fill: var(--body-text-color-subdued); font-size: 12px; }
.front line { stroke: var(--border-color-primary); stroke-width: .7; }
.front .line { fill: none; stroke: var(--color-accent); stroke-width: 1.5; opacity: .5; }
.front .dot { fill: var(--body-text-color-subdued); opacity: .45; }
.front .trial { cursor: pointer; fill: var(--color-accent); }
.front .trial .reach { fill: transparent; }
.front .trial.chosen { stroke: var(--body-text-color); stroke-width: 2; }
.front .trial.chosen .reach { stroke: none; }
.front .trial:focus-visible { outline: 2px solid var(--color-accent); outline-offset: 2px; }
"""
"""How the page looks: Gradio's own variables only, so that light and dark follow the browser."""
