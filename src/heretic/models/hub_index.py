"""The sizes of a model on the hub: the headers of its weights, without the weights."""

import json
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, NotASafetensorsRepoError

from heretic.common.errors import ModelError, causes, first_line
from heretic.common.hub_errors import HTTP, connection_problem, hub_failure
from heretic.models.footprint import text_part
from heretic.models.location import Location
from heretic.models.weight_headers import Tensor
from heretic.observability.hub_client import prepare_hub


def hub_tensors(location: Location, revision: str | None) -> tuple[tuple[Tensor, ...], dict[str, Any]]:
    """Every tensor of a repository, and its configuration.

    Raises:
        ModelError: The hub cannot be asked, or has no such model.
    """
    prepare_hub()
    try:
        metadata = HfApi().get_safetensors_metadata(location.source, revision=revision)
        path = Path(hf_hub_download(location.source, "config.json", revision=revision))
        table = json.loads(path.read_text(encoding="utf-8"))
    except NotASafetensorsRepoError as error:
        raise ModelError(f"{location.name} has no .safetensors files, whose headers say how large it is.") from error
    except (HfHubHTTPError, HTTP.HTTPError, OSError, ValueError) as error:
        failed = hub_failure(causes(error))
        problem = None if failed is None else connection_problem(*failed, location.name)
        raise ModelError(
            f"The hub does not say how large {location.name} is: {problem or first_line(error)}; a folder that holds "
            "the model can be named instead."
        ) from error
    tensors = tuple(
        Tensor(name, str(info.dtype), tuple(info.shape))
        for file in metadata.files_metadata.values()
        for name, info in file.tensors.items()
    )
    return tensors, text_part(table) if isinstance(table, dict) else {}
