"""One way to find extension points: a decorator for our own, entry points for everybody else's."""

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pkgutil import iter_modules
from typing import Generic, TypeVar

from heretic.common.errors import HereticError, PluginError, choose_one, first_line

T = TypeVar("T")


class Registry(Generic[T]):
    """Named plug-ins of one kind.

    Our own live one a file in `package`: NAME.py registers the plug-in NAME with `register` when it is imported, which
    is when somebody asks for that plug-in. Others are entry points in the group ``heretic.<kind>s``.
    """

    def __init__(self, kind: str, package: str) -> None:
        self._kind = kind
        self._package = package
        self._entries: dict[str, T] = {}

    def register(self, name: str, entry: T) -> None:
        """Add one plug-in.

        Raises:
            PluginError: The name is taken.
        """
        if name in self._entries and self._entries[name] is not entry:
            raise PluginError(f"Two {self._kind}s are named {name}; uninstall or rename one of them.")
        self._entries[name] = entry

    def decorator(self, name: str) -> Callable[[T], T]:
        """`register` as a decorator."""

        def decorate(entry: T) -> T:
            self.register(name, entry)
            return entry

        return decorate

    def names(self) -> tuple[str, ...]:
        """Every name that `get` accepts, sorted; no plug-in is imported."""
        others = (entry.name for entry in entry_points(group=self._group))
        return tuple(sorted({*self._entries, *self._module_names(), *others}))

    def get(self, name: str) -> T:
        """The plug-in of that name.

        Raises:
            PluginError: There is none (the message lists those there are), or it cannot be imported.
        """
        names = self._module_names()
        if name in names:
            self._import_modules(name)
        if name in self._entries:
            return self._entries[name]
        for entry in entry_points(group=self._group, name=name):
            # Ours come first, so that whoever takes one of their names is the one to be told so.
            self._import_modules(*names)
            loaded = self._load(entry)
            # A plug-in that used our decorator has registered itself; what it names may be the bare function.
            return self._entries.setdefault(name, loaded)
        raise PluginError(f"There is no {self._kind} named {name}; {choose_one(name, self.names())}.")

    def _load(self, entry: EntryPoint) -> T:
        try:
            loaded: T = entry.load()
        except HereticError:
            # It used what we offer in a wrong way, and was told so in a sentence.
            raise
        except (Exception, SystemExit) as error:
            # Importing a module runs somebody else's code, which may raise anything, or be a script that exits.
            reason = f"{type(error).__name__}: {first_line(error)}"
            raise PluginError(
                f"The {self._kind} {entry.name} (entry point {entry.value}) cannot be imported ({reason}); mend "
                f"or uninstall the package that brings it, or choose another {self._kind}."
            ) from error
        return loaded

    @property
    def _group(self) -> str:
        return f"heretic.{self._kind}s"

    def _module_names(self) -> tuple[str, ...]:
        return tuple(module.name for module in iter_modules(import_module(self._package).__path__))

    def _import_modules(self, *names: str) -> None:
        for name in names:
            import_module(f"{self._package}.{name}")
