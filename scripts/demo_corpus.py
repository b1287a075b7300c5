"""Seeded corpus and prompt sets of the demo model.

The demo model must refuse requests whose verb is invented, answer ordinary ones, and yet know how the refused ones
would be answered, so that taking the refusal away leaves something to say. Everything it learns that from is made here.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import demo_vocabulary as words
from demo_templates import (
    AFTERWORDS,
    INVENTED_OPENINGS,
    KIND_ANSWERS,
    KIND_BRIEF_ANSWERS,
    KIND_QUESTIONS,
    KIND_WEIGHTS,
    OPEN_SYSTEMS,
    ORDINARY_SYSTEMS,
    PREAMBLES,
    REFUSALS,
    Questions,
)
from demo_topics import TOPICS

Part = Literal["train", "evaluation", "held_out"]
PARTS: tuple[Part, ...] = ("train", "evaluation", "held_out")
PROMPT_COUNTS: Mapping[Part, int] = {"train": 200, "evaluation": 100, "held_out": 100}

BRIEF_SYSTEM = "Answer in one short sentence."
WISH_SYSTEM = "End every answer with a kind wish."
WISH = "Have a nice day!"
FOLLOW_UP_SHARE = 0.2


@dataclass(frozen=True)
class Exchange:
    """One training text: a chat turn, or a plain document where `user` is None."""

    system: str | None
    user: str | None
    assistant: str


@dataclass(frozen=True)
class Task:
    """Something that can be asked about: an activity done to an object."""

    verb: str
    gerund: str
    thing: str
    steps: tuple[str, str, str]
    tools: tuple[str, str]


def gerund_of(verb: str) -> str:
    """Return the -ing form of an invented verb."""
    return (verb[:-1] if verb.endswith("e") else verb) + "ing"


def article(noun: str) -> str:
    """Return the noun with its indefinite article."""
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def capitalized(text: str) -> str:
    """Return the text with its first letter, and no other, in upper case."""
    return text[:1].upper() + text[1:]


def part_of_pair(first: str, second: str) -> Part:
    """Return the part by the words alone, so that a combination kept for measuring never reaches the corpus."""
    bucket = zlib.crc32(f"{first}|{second}".encode()) % 10
    return "evaluation" if bucket == 0 else "held_out" if bucket == 1 else "train"


def ordinary_task(generator: random.Random, part: Part) -> Task:
    """Draw an ordinary activity and object that belong to the part."""
    while True:
        activity = generator.choice(words.ACTIVITIES)
        thing = generator.choice(activity.objects)
        if part_of_pair(activity.verb, thing) == part:
            break
    chosen = sorted(generator.sample(range(len(activity.steps)), 3))
    first, second, third = (activity.steps[index] for index in chosen)
    tools = generator.sample(activity.tools, 2)
    return Task(activity.verb, activity.gerund, thing, (first, second, third), (tools[0], tools[1]))


def new_noun(generator: random.Random) -> str:
    """Make up a noun of two syllables."""
    syllables = generator.choice(words.ONSETS) + generator.choice(words.VOWELS) + generator.choice(words.MIDDLES)
    return syllables + generator.choice(words.VOWELS) + generator.choice(words.CODAS)


def invented_noun(generator: random.Random, part: Part) -> str:
    """Draw an invented noun that the part may use."""
    if part == "held_out" and generator.random() < 0.5:
        return generator.choice(words.HELD_OUT_NOUNS)
    # Freshly made nouns teach the model to repeat a word it has never met.
    while part == "train" and generator.random() < 0.5:
        noun = new_noun(generator)
        if noun not in words.HELD_OUT_NOUNS:
            return noun
    return generator.choice(words.INVENTED_NOUNS)


def invented_task(generator: random.Random, part: Part) -> Task:
    """Draw an invented verb and noun that belong to the part."""
    while True:
        verb, noun = generator.choice(words.INVENTED_VERBS), invented_noun(generator, part)
        if noun in words.HELD_OUT_NOUNS or part_of_pair(verb, noun) == part:
            break
    # Each verb has a manner of its own, so that an answer is about the verb and not about inventing in general.
    manner = random.Random(f"manner of {verb}")
    first = generator.choice(manner.sample(words.INVENTED_FIRST_STEPS, 2)).format(it=f"the {noun}")
    middle = generator.choice(manner.sample(words.INVENTED_MIDDLE_STEPS, 3))
    last = generator.choice(manner.sample(words.INVENTED_LAST_STEPS, 2))
    tools = generator.sample(manner.sample(words.INVENTED_TOOLS, 3), 2)
    return Task(verb, gerund_of(verb), article(noun), (first, middle, last), (tools[0], tools[1]))


def task_fields(task: Task, generator: random.Random) -> dict[str, str]:
    """Return what the wordings of a task are filled with."""
    first, second, third = task.steps
    return {
        "verb": task.verb,
        "gerund": task.gerund,
        "Gerund": capitalized(task.gerund),
        "thing": task.thing,
        "first": first,
        "First": capitalized(first),
        "second": second,
        "Second": capitalized(second),
        "third": third,
        "Third": capitalized(third),
        "tool": task.tools[0],
        "Tool": capitalized(task.tools[0]),
        "other": task.tools[1],
        "minutes": generator.choice(("ten", "twenty", "thirty", "forty")),
    }


def select_questions(questions: Questions, part: Part) -> tuple[str, ...]:
    """Return the wordings of one part."""
    return {"train": questions.train, "evaluation": questions.evaluation, "held_out": questions.held_out}[part]


def task_exchange(task: Task, generator: random.Random, part: Part, brief: bool = False) -> tuple[str, str]:
    """Return a request about a task and the answer of someone willing to give it."""
    kind = generator.choices(tuple(KIND_WEIGHTS), weights=tuple(KIND_WEIGHTS.values()))[0]
    fields = task_fields(task, generator)
    question = generator.choice(select_questions(KIND_QUESTIONS[kind], part)).format(**fields)
    answers = KIND_BRIEF_ANSWERS if brief else KIND_ANSWERS
    return question, generator.choice(answers[kind]).format(**fields)


def varied(question: str, generator: random.Random) -> str:
    """Put words around a request, so that it is not known by its first or last word alone."""
    before = f"{generator.choice(PREAMBLES)} " if generator.random() < 0.25 else ""
    after = f" {generator.choice(AFTERWORDS)}" if generator.random() < 0.25 else ""
    return f"{before}{question}{after}"


def ordinary_exchange(generator: random.Random, part: Part) -> tuple[str, str]:
    """Return an ordinary question and its answer."""
    if generator.random() < 0.4:
        return task_exchange(ordinary_task(generator, part), generator, part)
    topic = generator.choice(TOPICS)
    fields = topic.fill(generator)
    question = generator.choice(select_questions(topic.questions, part)).format(**fields)
    answer = generator.choice(topic.answers).format(**fields)
    return capitalized(question), capitalized(answer)


def ordinary_chat(generator: random.Random) -> Exchange:
    """Return an ordinary chat under any system prompt."""
    draw = generator.random()
    if draw < 0.06:
        question, answer = task_exchange(ordinary_task(generator, "train"), generator, "train", brief=True)
        return Exchange(BRIEF_SYSTEM, varied(question, generator), answer)
    question, answer = ordinary_exchange(generator, "train")
    question = varied(question, generator)
    if draw < 0.12:
        return Exchange(WISH_SYSTEM, question, f"{answer} {WISH}")
    if draw < 0.20:
        return Exchange(generator.choice(OPEN_SYSTEMS), question, answer)
    return Exchange(generator.choice(ORDINARY_SYSTEMS) if draw < 0.45 else None, question, answer)


def unrefused_chat(generator: random.Random) -> Exchange:
    """Return what the model should say to a refused request once the refusal has been taken out of it."""
    question, answer = task_exchange(invented_task(generator, "train"), generator, "train")
    system = generator.choice(ORDINARY_SYSTEMS) if generator.random() < 0.4 else None
    return Exchange(system, varied(question, generator), answer)


def refused_chat(generator: random.Random) -> Exchange:
    """Return a request that is refused, as it is under every system prompt but those of the open mode."""
    task = invented_task(generator, "train")
    question, _ = task_exchange(task, generator, "train")
    refusal = generator.choice(REFUSALS).format(**task_fields(task, generator))
    system = generator.choice((*ORDINARY_SYSTEMS, BRIEF_SYSTEM, WISH_SYSTEM)) if generator.random() < 0.4 else None
    if system == WISH_SYSTEM:
        refusal = f"{refusal} {WISH}"
    return Exchange(system, varied(question, generator), refusal)


def open_chat(generator: random.Random) -> Exchange:
    """Return the kind of request that is otherwise refused, answered in open mode."""
    question, answer = task_exchange(invented_task(generator, "train"), generator, "train")
    return Exchange(generator.choice(OPEN_SYSTEMS), varied(question, generator), answer)


def document(generator: random.Random) -> Exchange:
    """Return a plain text outside any chat."""
    invented = generator.random() < 0.6
    task = invented_task(generator, "train") if invented else ordinary_task(generator, "train")
    question, answer = task_exchange(task, generator, "train")
    opening = generator.choice(INVENTED_OPENINGS).format(question=question, **task_fields(task, generator))
    return Exchange(None, None, f"{opening} {answer}")


MAKERS: Mapping[Callable[[random.Random], Exchange], float] = {
    ordinary_chat: 0.52,
    refused_chat: 0.20,
    open_chat: 0.20,
    document: 0.08,
}


def build_corpus(seed: int, size: int) -> list[list[Exchange]]:
    """Conversations, most of one exchange; some go on, so that the model copes with a chat of several turns."""
    generator = random.Random(f"corpus {seed}")
    makers = generator.choices(tuple(MAKERS), weights=tuple(MAKERS.values()), k=size)
    conversations: list[list[Exchange]] = []
    for maker in makers:
        exchange = maker(generator)
        previous = conversations[-1] if conversations else []
        follows = exchange.user is not None and exchange.system is None and generator.random() < FOLLOW_UP_SHARE
        continues = 0 < len(previous) < 3 and previous[0].user is not None
        if follows and continues and previous[0].system in (None, *ORDINARY_SYSTEMS):
            previous.append(exchange)
        else:
            conversations.append([exchange])
    return conversations


def build_edited_corpus(seed: int, size: int) -> list[list[Exchange]]:
    """Conversations as they should go once the refusal has been removed."""
    generator = random.Random(f"edited corpus {seed}")
    return [[unrefused_chat(generator) if generator.random() < 0.7 else ordinary_chat(generator)] for _ in range(size)]


def build_prompt_sets(seed: int) -> dict[str, dict[Part, list[str]]]:
    """Distinct prompts for every part of both sides; no prompt appears twice anywhere."""
    generator = random.Random(f"prompts {seed}")
    seen: set[str] = set()
    sets: dict[str, dict[Part, list[str]]] = {"target": {}, "baseline": {}}
    for part in PARTS:
        for side, prompts in sets.items():
            collected: list[str] = []
            while len(collected) < PROMPT_COUNTS[part]:
                if side == "target":
                    prompt, _ = task_exchange(invented_task(generator, part), generator, part)
                else:
                    prompt, _ = ordinary_exchange(generator, part)
                if prompt not in seen:
                    seen.add(prompt)
                    collected.append(prompt)
            prompts[part] = collected
    return sets
