"""Uploading a saved folder with the hub's own client; the token is the client's business and never shown."""

from pathlib import Path

from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
)
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # public, but not listed there

from heretic.common.errors import ExportError, HereticError, UserError, causes
from heretic.common.hub_errors import HTTP, HubFailure, connection_problem, hub_failure
from heretic.common.integrity import check_folder, harmful
from heretic.export.redact import redact
from heretic.observability.events import ModelUploaded, UploadStarted, Warned, emit
from heretic.observability.hub_client import ask_hub_again, prepare_hub
from heretic.observability.steps import step

_LOGIN = "run 'hf auth login' or set HF_TOKEN to a token with write access"
_STALE_WEIGHTS = ["*.safetensors", "*.safetensors.index.json"]
"""Weights of an earlier upload that the new folder does not have; other files of the repository stay."""


def check_repository(repository: str) -> None:
    """Check the form of a repository name and that there is a token; ask before a long search, not after it.

    Raises:
        UserError: The name is not a repository id, or nobody is logged in.
    """
    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise UserError(
            f"{repository!r} is not a valid repository id ({redact(str(error))}); write it as user/name."
        ) from None
    if get_token() is None:
        raise UserError(f"Uploading to {repository} needs a login; {_LOGIN}.")


def check_upload(repository: str) -> None:
    """Check before a long search that what it finds can be uploaded: the name, the login, and what the hub says of it.

    Where the hub does not answer, that is said, and may be over when the search is.

    Raises:
        UserError: The hub does not accept the login, or this machine is set up so that no upload can succeed.
    """
    check_repository(repository)
    prepare_hub()
    try:
        HfApi().whoami()
    except (HTTP.HTTPError, OSError, RuntimeError, ValueError) as error:
        failed, failure = hub_failure(causes(error)), upload_error(error, repository)
    else:
        return
    # Raised outside the handler, as below.
    if isinstance(failure, UserError):
        raise failure
    if failed is not None and failed[0] in (HubFailure.ADDRESS, HubFailure.PROXY, HubFailure.CERTIFICATE):
        raise UserError(str(failure))
    emit(Warned(f"It cannot be known before the search whether {repository} takes the upload: {failure}"))


def upload_error(error: Exception, repository: str) -> HereticError:
    """What went wrong while uploading, as an error of Heretic's without any token in it."""
    detail = redact(" ".join(str(error).split()))
    if isinstance(error, LocalTokenNotFoundError):
        return UserError(f"Uploading to {repository} needs a login; {_LOGIN}.")
    failed = hub_failure(causes(error))
    problem = None if failed is None else connection_problem(*failed, repository)
    if problem is not None:
        return ExportError(f"T{redact(problem[1:])}.")
    if isinstance(error, OfflineModeIsEnabled) and error.__cause__ is None:
        return UserError(f"Uploading to {repository} is off because HF_HUB_OFFLINE is set; unset it and try again.")
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        if status == 401:
            return UserError(f"The hub did not accept the token for {repository}; {_LOGIN}.")
        if status == 403:
            return UserError(f"The token may not write to {repository}; {_LOGIN}, or choose a repository of your own.")
        return ExportError(f"The hub refused the upload to {repository} (status {status}: {detail}); try again later.")
    return ExportError(f"The upload to {repository} failed ({detail}); check the network and try again.")


def upload_folder(folder: Path, repository: str, private: bool) -> str:
    """Upload a saved folder as a model repository.

    Args:
        folder: A folder that Heretic saved; its checksums are compared first, so that no damaged file is published.
        repository: ``user/name``, or ``name`` for one of the logged-in user's own.
        private: Create the repository as private; an existing public one is refused then.

    Returns:
        The repository's address.

    Raises:
        UserError: No login, no right to write, a bad name, or a public repository where a private one was asked for.
        ExportError: The folder is damaged, the network or the hub failed.
    """
    check_repository(repository)
    prepare_hub()
    ask_hub_again()
    with step("checking the saved folder"):
        differences = harmful(check_folder(folder))
    if differences:
        first = differences[0]
        raise ExportError(f"{first.path} in {folder} is {first.kind.value} since it was saved; save the model again.")
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    emit(UploadStarted(repository, len(sizes), sum(sizes)))
    failure: HereticError
    try:
        with step("uploading"):
            url = _upload(HfApi(), folder, repository, private)
    except (
        HTTP.HTTPError,
        OSError,
        RuntimeError,
        ValueError,
    ) as error:  # RuntimeError: from the hub's transfer library
        failure = upload_error(error, repository)
    else:
        emit(ModelUploaded(repository, url, private))
        return url
    # Raised outside the handler: the original error may hold request headers, and would be chained to this one.
    raise failure


def _upload(api: HfApi, folder: Path, repository: str, private: bool) -> str:
    created = api.create_repo(repository, private=private, repo_type="model", exist_ok=True)
    name = created.repo_id
    # For a repository that exists already the hub ignores the wish for privacy.
    if private and not api.repo_info(name, repo_type="model").private:
        raise UserError(f"{repository} exists and is public; make it private on the hub first or choose another name.")
    api.upload_folder(
        repo_id=name,
        folder_path=folder,
        repo_type="model",
        commit_message="Upload a model edited with Heretic",
        delete_patterns=_STALE_WEIGHTS,
    )
    return str(created)
