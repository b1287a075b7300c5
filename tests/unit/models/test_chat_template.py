import resource
import signal
from contextlib import suppress

import pytest
from tests.models.pico import pico_tokenizer

from heretic.common.errors import ModelError
from heretic.models.chat_template import ChatFormatter, Limits, TemplateRefusal, without_system
from heretic.models.limited import LimitReachedError, limited
from heretic.prompts.types import Prompt

FULL = (
    "{{ bos_token }}{% for message in messages %}[{{ message.role }}]{{ message.content }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
REFUSES_SYSTEM = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + FULL
)
DROPS_SYSTEM = FULL.replace(
    "{% for message in messages %}", "{% for message in messages if message.role != 'system' %}"
)
IN_PARTS = FULL.replace(
    "{{ message.content }}",
    "{% for part in message.content | selectattr('type', 'equalto', 'text') %}{{ part.text }}{% endfor %}",
)
THINKING = FULL + "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}"

PROMPT = Prompt("Hello?", system="Be brief.", prefix="Well")


def formatter(template):
    return ChatFormatter(pico_tokenizer(template))


def test_a_template_with_a_system_role():
    chat = formatter(FULL)
    assert (chat.has_template, chat.supports_system, chat.add_special_tokens) == (True, True, False)
    assert chat.render(PROMPT) == "<bos>[system]Be brief.[user]Hello?[assistant]Well"
    assert chat.render(Prompt("Hello?")) == "<bos>[user]Hello?[assistant]"


@pytest.mark.parametrize("template", [REFUSES_SYSTEM, DROPS_SYSTEM])
def test_a_template_without_a_system_role_keeps_the_text(template):
    chat = formatter(template)
    assert chat.has_template
    assert not chat.supports_system
    assert chat.render(PROMPT) == "<bos>[user]Be brief.\n\nHello?[assistant]Well"
    assert chat.render(Prompt("Hello?")) == "<bos>[user]Hello?[assistant]"


def test_a_template_that_wants_typed_parts():
    assert formatter(IN_PARTS).render(PROMPT) == "<bos>[system]Be brief.[user]Hello?[assistant]Well"


def test_no_template_at_all():
    chat = formatter(None)
    assert (chat.has_template, chat.supports_system, chat.add_special_tokens) == (False, False, True)
    assert chat.render(PROMPT) == "Be brief.\n\nUser: Hello?\n\nAssistant:Well"


def test_thinking_is_switched_off():
    assert formatter(THINKING).render(Prompt("Hi")).endswith("[assistant]<think></think>")


def test_conversations_of_several_turns():
    messages = [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "A"},
        {"role": "assistant", "content": "B"},
        {"role": "user", "content": "C"},
    ]
    assert formatter(FULL).render_messages(messages) == "<bos>[system]S[user]A[assistant]B[user]C[assistant]"
    assert formatter(REFUSES_SYSTEM).render_messages(messages) == "<bos>[user]S\n\nA[assistant]B[user]C[assistant]"
    assert formatter(None).render_messages(messages) == "S\n\nUser: A\n\nAssistant: B\n\nUser: C\n\nAssistant:"


ONE_TURN = "{% if messages | length > 2 %}{{ raise_exception('one turn only') }}{% endif %}" + FULL
LAST_ALONE = FULL.replace("in messages %}", "in messages[-1:] %}")
ANSWERS_IN_PARTS = FULL.replace(
    "{{ message.content }}",
    "{% if message.role == 'assistant' and message.content is string %}{{ raise_exception('parts') }}"
    "{% elif message.content is string %}{{ message.content }}{% else %}{{ message.content[0].text }}{% endif %}",
)
TURNS = [
    {"role": "user", "content": "A"},
    {"role": "assistant", "content": "B"},
    {"role": "user", "content": "C"},
]


def test_templates_say_which_conversations_they_take():
    assert formatter(FULL).limits == formatter(None).limits == Limits()
    assert formatter(ONE_TURN).limits.turns == "one turn only"
    assert formatter(LAST_ALONE).limits.turns == "it drops earlier messages"
    assert formatter(REFUSES_SYSTEM).limits == Limits(system="System role not supported")
    assert formatter(DROPS_SYSTEM).limits == Limits(system="it drops a system message")


def test_a_conversation_that_a_template_refuses_is_told_from_a_template_that_is_of_no_use():
    with pytest.raises(TemplateRefusal, match="one turn only"):
        formatter(ONE_TURN).render_messages(TURNS)


def test_a_template_may_want_parts_of_answers_alone():
    chat = formatter(ANSWERS_IN_PARTS)
    assert chat.limits == Limits()
    assert chat.render_messages(TURNS) == "<bos>[user]A[assistant]B[user]C[assistant]"


@pytest.mark.parametrize("template", [FULL, None])
def test_there_is_never_more_than_one_begin_token(template):
    tokenizer = pico_tokenizer(template)
    backend = tokenizer.backend_tokenizer
    from tokenizers.processors import TemplateProcessing

    backend.post_processor = TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", tokenizer.bos_token_id)])
    chat = ChatFormatter(tokenizer)
    ids = tokenizer(chat.render(PROMPT), add_special_tokens=chat.add_special_tokens)["input_ids"]
    assert ids.count(tokenizer.bos_token_id) == 1
    assert ids[0] == tokenizer.bos_token_id


@pytest.mark.parametrize("template", ["{{ raise_exception('never') }}", "constant", "{% for %}"])
def test_a_template_that_cannot_be_used_is_an_error(template):
    with pytest.raises(ModelError, match=r"chat template cannot be used .* correct chat_template\.jinja"):
        formatter(template)


def test_moving_the_system_message_leaves_the_original_alone():
    messages = [{"role": "system", "content": "S"}, {"role": "user", "content": "A"}]
    assert without_system(messages) == [{"role": "user", "content": "S\n\nA"}]
    assert messages[1]["content"] == "A"
    assert without_system(messages[1:]) == messages[1:]


LOOP = "{% for a in range(90000) %}{% for b in range(90000) %}{% endfor %}{% endfor %}"
HOSTILE = {
    "a loop": (LOOP, "more than"),
    "in one step": ("{{ 7 ** (10 ** 9) }}", "more than"),
    "memory": ("{{ 'x' * 10 ** 10 }}", "memory"),
    "memory by doubling": (
        "{% set ns = namespace(x='x') %}{% for a in range(50) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        "memory",
    ),
    "long": ("{{ 'x' * 10 ** 8 }}", "100000"),
    "calls itself": ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "recursion"),
    "divides": ("{{ 1 / 0 }}", "ZeroDivisionError"),
    "nested": ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "chat template"),
    "no attribute": ("{{ messages[5].role.x.y }}", "chat template"),
}


@pytest.mark.parametrize(("hostile", "said"), HOSTILE.values(), ids=HOSTILE)
def test_a_template_that_takes_too_much_is_one_sentence(hostile, said):
    with pytest.raises(ModelError, match="chat template cannot be used") as raised:
        formatter(hostile + FULL)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)
    assert formatter(FULL).render(Prompt("Hello?")) == "<bos>[user]Hello?[assistant]"


def test_a_template_that_takes_too_much_of_one_prompt_only_is_one_sentence():
    chat = formatter("{% if 'now' in messages[0].content %}" + LOOP + "{% endif %}" + FULL)
    with pytest.raises(ModelError, match="chat template cannot be used"):
        chat.render(Prompt("now"))


def run_for_ever():
    while True:
        with suppress(Exception):
            sum(range(1000))


def test_limits_are_as_before_afterwards():
    before = resource.getrlimit(resource.RLIMIT_AS), signal.getsignal(signal.SIGVTALRM)
    for _ in range(2):
        with pytest.raises(LimitReachedError), limited(0.01):
            run_for_ever()
        with pytest.raises(MemoryError), limited(memory=2**24):
            bytearray(2**32)
        assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)
        assert (resource.getrlimit(resource.RLIMIT_AS), signal.getsignal(signal.SIGVTALRM)) == before
