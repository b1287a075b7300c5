"""What can go wrong on the chat page: a class a kind, each with one sentence for the person and a line in the log."""

import logging

from heretic.common.errors import HereticError, OutOfMemoryError, PromptError, first_line
from heretic.common.foreign_errors import foreign_error
from heretic.common.redaction import mask_secrets

LOGGER = logging.getLogger("heretic_chat")


class ChatError(HereticError):
    """Something on the chat page went wrong."""


class ModelNotFoundError(ChatError):
    """There is no such model, or the original of an edited one is not here."""


class ModelInvalidError(ChatError):
    """A folder holds no model that can be used."""


class ModelLoadingError(ChatError):
    """A model could not be loaded."""


class ChatMemoryError(ChatError):
    """Memory ran out."""


class TokenizingError(ChatError):
    """A conversation cannot be brought into the form that the model reads."""


class HistoryError(ChatError):
    """A kept conversation cannot be read, written or removed."""


class SavingError(ChatError):
    """A trial could not be saved."""


class VotingError(ChatError):
    """A vote cannot be kept, or those that are kept cannot be read."""


class SearchError(ChatError):
    """The web could not be searched."""


class GenerationError(ChatError):
    """An answer could not be written."""


MISTAKE = "That is a mistake in Heretic; the log of the terminal has the lines to report."


def as_chat_error(error: Exception, kind: type[ChatError]) -> ChatError:
    """An exception as one of the page's errors, and a line of the log; its text is safe to be shown.

    Args:
        error: What was raised.
        kind: What was being done, where the exception does not tell more.
    """
    if isinstance(error, ChatError):
        told: ChatError = error
    elif kind is ChatMemoryError or isinstance(error, OutOfMemoryError | MemoryError):
        told = ChatMemoryError(
            f"Memory ran out ({first_line(error)}); begin a new conversation, load a smaller model, or load it in 4 "
            "bits."
        )
    elif isinstance(error, PromptError):
        told = TokenizingError(str(error))
    elif isinstance(error, HereticError):
        told = kind(str(error))
    else:
        known = foreign_error(error)
        told = kind(str(known) if known is not None else f"{type(error).__name__}. {MISTAKE}")
        if known is None:
            LOGGER.error("%s", type(error).__name__, exc_info=error)
    LOGGER.warning("%s: %s", type(told).__name__, mask_secrets(str(told)))
    return type(told)(mask_secrets(str(told)))
