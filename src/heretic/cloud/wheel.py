"""The running program as a wheel, so that a rented machine runs the same version without a registry or a checkout."""

import base64
import hashlib
import io
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import heretic
from heretic.common.errors import CloudError

_WHEEL = "Wheel-Version: 1.0\nGenerator: heretic\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def wheel_name() -> str:
    """The file's name, which pip reads."""
    return f"heretic-{heretic.__version__}-py3-none-any.whl"


def pack_wheel() -> bytes:
    """The wheel.

    Raises:
        CloudError: It is not known what the program needs, as it was not installed.
    """
    try:
        installed = distribution("heretic")
    except PackageNotFoundError as error:
        raise CloudError("Heretic is not installed but only on the path; install it with pip or uv first.") from error
    package = Path(heretic.__file__).parent
    paths = [path for path in sorted(package.rglob("*")) if path.is_file() and "__pycache__" not in path.parts]
    about = f"heretic-{heretic.__version__}.dist-info"
    files = {f"heretic/{path.relative_to(package).as_posix()}": path.read_bytes() for path in paths}
    files |= {
        f"{about}/{name}": (installed.read_text(name) or "").encode() for name in ("METADATA", "entry_points.txt")
    }
    files[f"{about}/WHEEL"] = _WHEEL.encode()
    record = "".join(f"{name},sha256={_digest(content)},{len(content)}\n" for name, content in files.items())
    files[f"{about}/RECORD"] = f"{record}{about}/RECORD,,\n".encode()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), content, zipfile.ZIP_DEFLATED)
    return packed.getvalue()


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
