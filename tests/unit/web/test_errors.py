import logging

import pytest

from heretic.common.errors import ModelError, OutOfMemoryError, PromptError
from heretic.web.errors import (
    ChatError,
    ChatMemoryError,
    GenerationError,
    ModelLoadingError,
    ModelNotFoundError,
    TokenizingError,
    as_chat_error,
)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ModelNotFoundError("gone"), ModelNotFoundError),
        (OutOfMemoryError("full"), ChatMemoryError),
        (MemoryError(), ChatMemoryError),
        (PromptError("too long"), TokenizingError),
        (ModelError("no"), ModelLoadingError),
        (KeyError("oops"), ModelLoadingError),
    ],
)
def test_every_error_becomes_one_of_the_pages_and_is_logged(
    error: Exception, kind: type[ChatError], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "heretic_chat"):
        told = as_chat_error(error, ModelLoadingError)
    assert type(told) is kind
    assert caplog.records[-1].name == "heretic_chat"
    assert "\n" not in str(told)


def test_a_mistake_of_ours_leaves_its_lines_in_the_log_alone(caplog: pytest.LogCaptureFixture) -> None:
    told = as_chat_error(ZeroDivisionError("secret detail"), GenerationError)
    assert "secret detail" not in str(told)
    assert caplog.records[0].exc_info is not None
