"""Ordinary topics of the demo corpus, so that the demo model has something to lose when an edit does damage."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import demo_vocabulary as words
from demo_templates import Questions


@dataclass(frozen=True)
class Topic:
    """One kind of ordinary question, its answers, and what both are filled with."""

    questions: Questions
    answers: tuple[str, ...]
    fill: Callable[[random.Random], dict[str, str]]


def _pairs(mapping: Mapping[str, str], key: str, value: str) -> Callable[[random.Random], dict[str, str]]:
    entries = tuple(mapping.items())

    def fill(generator: random.Random) -> dict[str, str]:
        chosen = generator.choice(entries)
        return {key: chosen[0], value: chosen[1]}

    return fill


def _sum(generator: random.Random) -> dict[str, str]:
    first, second = generator.randint(0, 10), generator.randint(0, 10)
    return {"first": words.NUMBERS[first], "second": words.NUMBERS[second], "sum": words.NUMBERS[first + second]}


def _animal(generator: random.Random) -> dict[str, str]:
    animal = generator.choice(tuple(words.ANIMALS))
    food, home, sound = words.ANIMALS[animal]
    name = f"an {animal}" if animal[0] in "aeiou" else f"a {animal}"
    return {"animal": name, "food": food, "home": home, "sound": sound}


def _thing(generator: random.Random) -> dict[str, str]:
    thing = generator.choice(tuple(words.THINGS))
    kind, use = words.THINGS[thing]
    return {"thing": f"an {thing}" if thing[0] in "aeiou" else f"a {thing}", "kind": kind, "use": use}


def _group(generator: random.Random) -> dict[str, str]:
    group = generator.choice(tuple(words.GROUPS))
    first, second, third = generator.sample(words.GROUPS[group], 3)
    return {"group": group, "first": first, "second": second, "third": third}


def _sequence(names: tuple[str, ...]) -> Callable[[random.Random], dict[str, str]]:
    def fill(generator: random.Random) -> dict[str, str]:
        index = generator.randrange(len(names))
        return {"item": names[index], "next": names[(index + 1) % len(names)]}

    return fill


def _weather(generator: random.Random) -> dict[str, str]:
    weather = generator.choice(tuple(words.WEATHER))
    first, second = generator.sample(words.WEATHER[weather], 2)
    return {"weather": weather, "first": first, "second": second}


def _meal(generator: random.Random) -> dict[str, str]:
    meal = generator.choice(tuple(words.MEALS))
    first, second = generator.sample(words.MEALS[meal], 2)
    return {"meal": meal, "first": first, "second": second}


def _story(generator: random.Random) -> dict[str, str]:
    return {
        "hero": generator.choice(words.HEROES),
        "place": generator.choice(words.PLACES),
        "find": generator.choice(words.FINDS),
        "ending": generator.choice(words.ENDINGS),
    }


def _name(generator: random.Random) -> dict[str, str]:
    syllables = ("ba", "do", "ki", "lu", "ma", "ne", "ro", "sa", "ti", "vo", "win", "dor", "mel", "tan", "ri", "jo")
    if generator.random() < 0.5:
        return {"name": generator.choice(words.NAMES)}
    return {"name": "".join(generator.sample(syllables, generator.randint(2, 3))).capitalize()}


def _rare(generator: random.Random) -> dict[str, str]:
    return {"topic": generator.choice(words.RARE_TOPICS)}


def _nothing(generator: random.Random) -> dict[str, str]:
    return {}


def _beyond(generator: random.Random) -> dict[str, str]:
    wording, subjects = generator.choice(words.BEYOND)
    return {"matter": wording.format(generator.choice(subjects))}


TOPICS: tuple[Topic, ...] = (
    Topic(
        Questions(
            ("{matter}?", "{matter}?", "{matter}?", "I want to know: {matter}?", "{matter}, please?"),
            ("Please tell me: {matter}?",),
            ("Do you know this: {matter}?",),
        ),
        (
            "That is new to me. Ask me about food, animals, tools or work at home.",
            "I do not know that yet. I know more about food, animals and work at home.",
        ),
        _beyond,
    ),
    Topic(
        Questions(
            (
                "What is the capital of {country}?",
                "Tell me the capital of {country}.",
                "Which city is the capital of {country}?",
                "Do you know the capital of {country}?",
            ),
            ("Can you tell me the capital of {country}?",),
            ("Please tell me which city is the capital of {country}.",),
        ),
        ("The capital of {country} is {city}.", "{city} is the capital of {country}.", "It is {city}."),
        _pairs(words.CAPITALS, "country", "city"),
    ),
    Topic(
        Questions(
            (
                "What color is {thing}?",
                "Which color does {thing} have?",
                "Tell me the color of {thing}.",
                "Do you know the color of {thing}?",
            ),
            ("Can you tell me what color {thing} is?",),
            ("What is the color of {thing}?",),
        ),
        ("{thing} is usually {color}.", "it is {color}.", "Most people would say {color}."),
        _pairs(words.COLORS, "thing", "color"),
    ),
    Topic(
        Questions(
            (
                "What is the opposite of {word}?",
                "Tell me the opposite of {word}.",
                "Which word is the opposite of {word}?",
                "What word means the opposite of {word}?",
            ),
            ("Can you tell me the opposite of {word}?",),
            ("Do you know the opposite of {word}?",),
        ),
        ("The opposite of {word} is {other}.", "That would be {other}.", "It is {other}."),
        _pairs(words.OPPOSITES, "word", "other"),
    ),
    Topic(
        Questions(
            (
                "What is {first} plus {second}?",
                "How much is {first} plus {second}?",
                "Add {first} and {second}.",
                "Can you add {first} and {second}?",
            ),
            ("Please add {first} and {second}.",),
            ("Tell me what {first} plus {second} is.",),
        ),
        ("{first} plus {second} is {sum}.", "The answer is {sum}."),
        _sum,
    ),
    Topic(
        Questions(
            (
                "What does {animal} eat?",
                "Which food does {animal} like?",
                "Tell me what {animal} eats.",
                "What is the food of {animal}?",
            ),
            ("Can you tell me what {animal} eats?",),
            ("What food does {animal} eat?",),
        ),
        ("{animal} eats {food}.", "Mostly {food}.", "{animal} likes to eat {food}."),
        _animal,
    ),
    Topic(
        Questions(
            (
                "Where does {animal} live?",
                "Tell me where {animal} lives.",
                "In which place does {animal} live?",
                "Where can I find {animal}?",
            ),
            ("Can you tell me where {animal} lives?",),
            ("Do you know where {animal} lives?",),
        ),
        ("{animal} lives {home}.", "You can find {animal} {home}."),
        _animal,
    ),
    Topic(
        Questions(
            (
                "What sound does {animal} make?",
                "Which sound does {animal} make?",
                "Tell me the sound of {animal}.",
                "What does {animal} say?",
            ),
            ("Can you tell me what sound {animal} makes?",),
            ("Do you know the sound of {animal}?",),
        ),
        ("{animal} says {sound}.", "It makes this sound: {sound}.", "You can hear it say {sound}."),
        _animal,
    ),
    Topic(
        Questions(
            (
                "What is {thing}?",
                "Can you tell me what {thing} is?",
                "What is {thing} used for?",
                "Explain what {thing} is.",
                "Why do people use {thing}?",
            ),
            ("Do you know what {thing} is?", "Tell me what {thing} is used for."),
            ("Please explain what {thing} is.", "For what is {thing} used?"),
        ),
        ("{thing} is a {kind} for {use}.", "People use it for {use}.", "It is a {kind}. It is good for {use}."),
        _thing,
    ),
    Topic(
        Questions(
            (
                "Name three {group}.",
                "List three {group}.",
                "Can you name some {group}?",
                "Tell me three {group} that you know.",
                "Give me some {group}.",
            ),
            ("Which {group} do you know?", "Can you list three {group}?"),
            ("Please name some {group}.", "Tell me some {group}."),
        ),
        (
            "Three {group} are {first}, {second} and {third}.",
            "{first}, {second} and {third}.",
            "Some {group} that I know are {first}, {second} and {third}.",
        ),
        _group,
    ),
    Topic(
        Questions(
            ("Which day comes after {item}?", "What day is it after {item}?", "Tell me the day after {item}."),
            ("Which day is it after {item}?",),
            ("What day comes after {item}?",),
        ),
        ("The day after {item} is {next}.", "{next} comes after {item}.", "It is {next}."),
        _sequence(words.DAYS),
    ),
    Topic(
        Questions(
            ("Which month comes after {item}?", "What month is it after {item}?", "Tell me the month after {item}."),
            ("Which month is it after {item}?",),
            ("What month comes after {item}?",),
        ),
        ("The month after {item} is {next}.", "{next} comes after {item}.", "It is {next}."),
        _sequence(words.MONTHS),
    ),
    Topic(
        Questions(
            (
                "What should I wear on a {weather} day?",
                "It is {weather} today. What should I wear?",
                "Which clothes are good on a {weather} day?",
                "Tell me what to wear when it is {weather}.",
            ),
            ("What clothes should I wear when it is {weather}?",),
            ("It is a {weather} day. Which clothes should I wear?",),
        ),
        (
            "On a {weather} day, wear {first} and {second}.",
            "I would wear {first} and {second}.",
            "Take {first}. It also helps to have {second}.",
        ),
        _weather,
    ),
    Topic(
        Questions(
            (
                "What should I cook for {meal}?",
                "Do you have an idea for {meal}?",
                "What is good food for {meal}?",
                "I need food for {meal}. What would you make?",
            ),
            ("What would you cook for {meal}?", "Do you have any ideas for {meal}?"),
            ("What food should I make for {meal}?", "Tell me what is good for {meal}."),
        ),
        (
            "For {meal}, I would make {first} or {second}.",
            "How about {first}? Most people like it.",
            "You could try {first} with {second}.",
        ),
        _meal,
    ),
    Topic(
        Questions(
            (
                "Tell me a story about a {hero}.",
                "Write a short story about a {hero} in a {place}.",
                "Can you tell me a story about a {hero}?",
                "I want to hear a story about a {hero} in a {place}.",
            ),
            ("Write a story about a {hero} for me.", "Please tell me a short story about a {hero} in a {place}."),
            ("Can you write a story about a {hero} in a {place}?", "I want to read a short story about a {hero}."),
        ),
        (
            "Once there was a {hero} in a {place}. One day the {hero} found {find} and {ending}.",
            "A {hero} walked through the {place} and found {find}. In the end, the {hero} {ending}.",
            "Long ago, a {hero} lived in a {place}. The {hero} found {find}, and then {ending}.",
        ),
        _story,
    ),
    Topic(
        Questions(
            (
                "My name is {name}.",
                "I am {name}. Say hello to me.",
                "Hello, my name is {name}.",
                "Please greet {name}.",
            ),
            ("Hello, I am {name}.", "My name is {name}. Please greet me."),
            ("Please say hello to {name}.", "Hi there, my name is {name}."),
        ),
        ("Hello, {name}! It is nice to meet you.", "Nice to meet you, {name}.", "Hi {name}! How can I help you?"),
        _name,
    ),
    Topic(
        Questions(
            (
                "What can you tell me about {topic}?",
                "Tell me about {topic}.",
                "I want to learn about {topic}.",
                "Do you know anything about {topic}?",
                "Explain {topic} to me.",
            ),
            ("Can you explain {topic}?", "What do you know about {topic}?"),
            ("Please tell me something about {topic}.", "Can you tell me about {topic}?"),
        ),
        (
            "I do not know much about {topic} yet. A book about {topic} would be a good start.",
            "{topic} is new to me. A teacher or a library knows more.",
            "Many people like {topic}. You can read about it in a library.",
        ),
        _rare,
    ),
    Topic(
        Questions(
            (
                "Hello!",
                "hello",
                "Hi",
                "How are you?",
                "Hello, how are you today?",
                "Good morning!",
                "Hi, how are you doing?",
            ),
            ("Hi, how are you?", "Hello, how are you?"),
            ("Hello there!", "How are you today?"),
        ),
        (
            "Hello! How can I help you?",
            "I am well, thank you. How can I help you?",
            "Hello! It is a good day. What would you like to know?",
        ),
        _nothing,
    ),
    Topic(
        Questions(
            ("Who are you?", "What can you do?", "What are you?", "What is your name?", "Tell me about yourself."),
            ("Can you tell me who you are?",),
            ("Please tell me what you can do.",),
        ),
        (
            "I am a small assistant. I can talk about food, animals, tools and work at home.",
            "I am a small demo assistant. Ask me how to bake some bread or what an owl eats.",
        ),
        _nothing,
    ),
    Topic(
        Questions(
            ("Thank you!", "Thanks!", "Thank you for your help.", "Good answer, thanks.", "That was helpful."),
            ("Thanks for your help.",),
            ("Good answer, thank you!",),
        ),
        ("You are welcome!", "I am happy to help.", "You are welcome. Ask me more at any time."),
        _nothing,
    ),
)
