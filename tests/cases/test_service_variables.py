"""Wrong: what Kubernetes sets for a service called heretic ends every run. Right: these are no settings.

The kind: tests/unit/config/test_load.py.
"""

from pathlib import Path

from heretic.config.load import load_settings

VARIABLES = {
    "HERETIC_SERVICE_HOST": "10.0.0.7",
    "HERETIC_SERVICE_PORT": "80",
    "HERETIC_PORT": "tcp://10.0.0.7:80",
    "HERETIC_PORT_80_TCP": "tcp://10.0.0.7:80",
    "HERETIC_PORT_80_TCP_PROTO": "tcp",
    "HERETIC_PORT_80_TCP_PORT": "80",
    "HERETIC_PORT_80_TCP_ADDR": "10.0.0.7",
}


def test_variables_of_a_service(tmp_path: Path) -> None:
    assert (
        load_settings(["--model", "demo"], VARIABLES, tmp_path).settings
        == load_settings(["--model", "demo"], {}, tmp_path).settings
    )
