"""Coverage-guided fuzzing (atheris) of what Heretic reads from files that others may have written.

    python scripts/fuzz.py TARGET [SECONDS]      python scripts/fuzz.py all 60

Every input must be read or refused with a HereticError, in good time: anything else stops the run, and the input lies
in ``fuzz-findings/``. atheris has wheels for some versions of Python and for Linux only. The same targets are fuzzed
with hypothesis in tests/unit/fuzz.
"""

import logging
import subprocess
import sys
from pathlib import Path

SLOWEST = 10
"""Seconds that one small input may take."""
LARGEST = 4096
"""Bytes of an input."""


def run_all(seconds: str) -> int:
    """Run every target in a process of its own; the exit code of the first that found something, else 0."""
    from tests.unit.fuzz.targets import TARGETS

    codes = [
        subprocess.run([sys.executable, __file__, target, seconds], check=False).returncode  # noqa: S603 - this script
        for target in TARGETS
    ]
    return next((code for code in codes if code), 0)


def main() -> int:
    """Fuzz one target, or all of them one after the other."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    target, seconds = [*sys.argv[1:], "60"][:2] if len(sys.argv) > 1 else ("all", "60")
    if target == "all":
        return run_all(seconds)
    import atheris

    logging.disable()
    with atheris.instrument_imports(include=["heretic", "tomllib", "tests.unit.fuzz"]):
        from tests.unit.fuzz.targets import TARGETS

        # Some targets import torch or the datasets library, which must not count as the time of an input.
        TARGETS[target](b"")

    findings = Path("fuzz-findings")
    findings.mkdir(exist_ok=True)
    options = [f"-max_total_time={seconds}", f"-timeout={SLOWEST}", f"-max_len={LARGEST}", "-rss_limit_mb=4096"]
    atheris.Setup(
        [sys.argv[0], *options, f"-artifact_prefix={findings}/{target}-", "-print_final_stats=1"], TARGETS[target]
    )
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
