"""Runs the command line in a process of its own for each request, without importing torch anew for each.

Started once as a script. Every line on its standard input is a request; it is answered, when the command has ended, by
the exit code on a line. The libraries are imported before the fork, which spares more than ten seconds a command.
"""

import gc
import json
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.quick import with_migrations_read_once, without_waiting_for_the_disk


def serve() -> None:
    import alembic.command  # noqa: F401 - imported for every command that follows
    import bitsandbytes  # noqa: F401
    import gguf  # noqa: F401
    import peft  # noqa: F401
    import sqlalchemy.dialects.sqlite  # noqa: F401
    import transformers.models.llama.modeling_llama
    import transformers.models.qwen2.modeling_qwen2  # noqa: F401
    from optuna.storages import RDBStorage

    import heretic.interface.menu
    import heretic.interface.terminal
    import heretic.interface.watching
    import heretic.prompts.tables
    import heretic.workflow  # noqa: F401
    from heretic.evaluation.refusal_patterns import RefusalDetector

    without_waiting_for_the_disk()
    with_migrations_read_once()
    with TemporaryDirectory() as folder:
        # Reads them, for all commands.
        RDBStorage(f"sqlite:///{folder}/study.db").remove_session()
    # Compiles the patterns of every language.
    RefusalDetector().is_refusal("An answer.")
    # Collections of the commands need not look at what was imported.
    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        process = os.fork()
        if process == 0:
            run(**json.loads(line))
        _, status = os.waitpid(process, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def run(folder: str, arguments: list[str], before: str, outputs: list[str]) -> None:
    """Become the command; never returns."""
    from heretic.cli import main

    write = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    for number, path in enumerate((os.devnull, *outputs)):
        os.dup2(os.open(path, write if number else os.O_RDONLY), number)
    os.chdir(folder)
    # Beside the folder, whose content tests look at: profiles are kept there, and not in the user's own folder.
    os.environ["XDG_CONFIG_HOME"] = f"{folder}.configuration"
    code = 1
    try:
        exec(before, {})  # noqa: S102 - what the test wants to be different in this process
        code = main(arguments)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve()
