import traceback
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

from heretic.common.errors import ExportError, UserError
from heretic.common.hub_errors import HubAddressError, HubProxyError
from heretic.export import hub
from heretic.export.content import ExportContent
from heretic.export.hub import check_repository, check_upload, upload_folder
from heretic.export.weights import save_model
from heretic.models.loaded import LoadedModel
from heretic.observability.events import Event, ModelUploaded, Warned

TOKEN = "hf_secretSECRETsecret0123456789"  # noqa: S105 - made up
CLIENT_ERROR = HfHubHTTPError.__bases__[0]


class FakeApi:
    """Records calls; raises what it is told to, with the token in the message as a careless client would."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.error: Exception | None = None
        self.exists_as_public = False

    def create_repo(self, repo_id: str, **options: Any) -> Any:
        self.calls.append(("create_repo", {"repo_id": repo_id, **options}))
        self.private = options["private"] and not self.exists_as_public

        class Url(str):
            repo_id = f"someone/{self.calls[0][1]['repo_id'].split('/')[-1]}"

        return Url(f"https://hub.example/{Url.repo_id}")

    def whoami(self) -> None:
        if self.error is not None:
            raise self.error

    def repo_info(self, repo_id: str, **_: Any) -> Any:
        return SimpleNamespace(private=self.private)

    def upload_folder(self, **options: Any) -> None:
        self.calls.append(("upload_folder", options))
        if self.error is not None:
            raise self.error


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> FakeApi:
    api = FakeApi()
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(hub, "HfApi", lambda: api)
    return api


@pytest.fixture
def folder(loaded: LoadedModel, content: ExportContent, tmp_path: Path) -> Path:
    return save_model(loaded, tmp_path / "out", content).path


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (lambda: http_error(401), "did not accept the token"),
        (lambda: OfflineModeIsEnabled("offline"), "HF_HUB_OFFLINE"),
        (lambda: HubAddressError("no scheme"), "HF_ENDPOINT"),
        (lambda: HubProxyError("no socksio"), "proxy"),
    ],
)
def test_what_no_upload_could_overcome_is_said_before_the_search(api: FakeApi, error: Any, words: str) -> None:
    api.error = error()
    with pytest.raises(UserError, match=words) as caught:
        check_upload("someone/edited")
    assert TOKEN not in str(caught.value)


def test_a_hub_that_does_not_answer_may_do_so_after_the_search(api: FakeApi, events: list[Event]) -> None:
    check_upload("someone/edited")
    assert events == []
    api.error = http_error(503)
    check_upload("someone/edited")
    (said,) = events
    assert isinstance(said, Warned)
    assert "network is fine" in said.message
    assert TOKEN not in said.message


def http_error(status: int) -> HfHubHTTPError:
    response = SimpleNamespace(
        headers={}, status_code=status, request=SimpleNamespace(headers={"authorization": TOKEN})
    )
    return HfHubHTTPError(f"{status} for https://hub.example with Bearer {TOKEN}", response=response)


@pytest.mark.parametrize("private", [True, False])
def test_upload(folder: Path, api: FakeApi, events: list[Event], private: bool) -> None:
    url = upload_folder(folder, "someone/edited", private)
    (_, created), (_, uploaded) = api.calls
    assert (created["repo_id"], created["private"], created["exist_ok"]) == ("someone/edited", private, True)
    assert (uploaded["repo_id"], Path(uploaded["folder_path"])) == ("someone/edited", folder)
    assert url == "https://hub.example/someone/edited"
    assert events[-1] == ModelUploaded("someone/edited", url, private)
    assert TOKEN not in str(api.calls)


def test_name_without_owner_is_completed_by_the_hub(folder: Path, api: FakeApi) -> None:
    upload_folder(folder, "edited", True)
    assert api.calls[1][1]["repo_id"] == "someone/edited"


def test_public_repository_is_not_filled_where_a_private_one_was_asked_for(folder: Path, api: FakeApi) -> None:
    api.exists_as_public = True
    with pytest.raises(UserError, match="exists and is public"):
        upload_folder(folder, "someone/edited", True)
    assert [name for name, _ in api.calls] == ["create_repo"]
    upload_folder(folder, "someone/edited", False)


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (http_error(401), UserError, "hf auth login"),
        (http_error(403), UserError, "may not write"),
        (http_error(500), ExportError, "status 500"),
        (CLIENT_ERROR(f"connection refused {TOKEN}"), ExportError, "check the network"),
        (ConnectionError(f"no route {TOKEN}"), ExportError, "check the network"),
        (RuntimeError(f"transfer failed {TOKEN}"), ExportError, "check the network"),
        (OfflineModeIsEnabled(TOKEN), UserError, "HF_HUB_OFFLINE"),
        (LocalTokenNotFoundError(TOKEN), UserError, "hf auth login"),
    ],
)
def test_errors_are_clear_and_free_of_the_token(
    folder: Path, api: FakeApi, events: list[Event], error: Exception, kind: type[Exception], words: str
) -> None:
    api.error = error
    with pytest.raises(kind, match=words) as caught:
        upload_folder(folder, "someone/edited", False)
    assert type(caught.value) is kind
    text = "".join(traceback.format_exception(caught.value))
    assert TOKEN not in text
    assert "\n" not in str(caught.value)
    assert not any(isinstance(event, ModelUploaded) for event in events)


def test_nobody_is_logged_in(folder: Path, api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "get_token", lambda: None)
    with pytest.raises(UserError, match=r"hf auth login.*HF_TOKEN"):
        upload_folder(folder, "someone/edited", False)
    assert api.calls == []


@pytest.mark.parametrize("name", ["a/b/c", "someone/has space", "", "-x", "someone/ends."])
def test_invalid_names(name: str, api: FakeApi) -> None:
    with pytest.raises(UserError, match="not a valid repository id"):
        check_repository(name)


def test_damaged_folder_is_not_published(folder: Path, api: FakeApi) -> None:
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ExportError, match=r"model\.safetensors.*changed"):
        upload_folder(folder, "someone/edited", False)
    assert api.calls == []


def test_token_is_in_no_file(loaded: LoadedModel, content: ExportContent, tmp_path: Path, api: FakeApi) -> None:
    from dataclasses import replace

    careless = replace(
        content, settings={"hf_token": TOKEN, "note": f"use {TOKEN}"}, direction_provenance={"command": TOKEN}
    )
    saved = save_model(replace(loaded, name=f"x{TOKEN}"), tmp_path / "out", careless)
    for path in saved.path.rglob("*"):
        assert TOKEN.encode() not in path.read_bytes(), path
