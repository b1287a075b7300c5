"""Where a direction file may be written: one is replaced, anything else is not."""

from pathlib import Path

from heretic.common.errors import UserError
from heretic.directions.types import DirectionSet
from heretic.export.atomic import check_file_target


def check_directions_file(path: Path) -> Path:
    """Refuse a direction file that cannot be written; one of an earlier run is replaced, anything else is not.

    Returns:
        The absolute path, symbolic links resolved.

    Raises:
        UserError: It cannot be written, or holds something else.
    """
    target = check_file_target(path)
    if target.exists():
        try:
            DirectionSet.load(target)
        except UserError as error:
            raise UserError(f"{path} exists and is no direction file; choose another path.") from error
    return target
