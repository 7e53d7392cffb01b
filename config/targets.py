"""
Whether `module:callable` exists, found out without importing anything of the user's.

A module is searched in the worker's working directory, then in the folder of the file, then in the PYTHONPATH of the
worker and of the daemon, then where Python looks anyway. What cannot be told from the source is accepted.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import os
from collections.abc import Iterator, Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from typing import Any

from regrow.config.errors import did_you_mean
from regrow.config.system import SystemProblem

Function = ast.FunctionDef | ast.AsyncFunctionDef


class Modules:
    """Finds modules and what they define; each is looked at once."""

    def __init__(self) -> None:
        importlib.invalidate_caches()
        self._specs: dict[tuple[str, str], ModuleSpec] = {}
        self._definitions: dict[str, Definitions] = {}

    def import_path(self, module: str, folders: Sequence[str]) -> str:
        """
        Return the first of `folders` that holds the module, "" where Python finds it without help.

        Raises:
            SystemProblem when it is nowhere.
        """
        top, *below = module.split(".")
        if not all(part.isidentifier() for part in (top, *below)):
            raise SystemProblem(f"{module} is no name of a module")
        for folder in (*folders, ""):
            spec = self._find_top(top, folder)
            if spec is not None:
                self._find_below(spec, below, folder, module)
                return folder
        near = did_you_mean(top, (name for folder in folders for name in _module_names(folder)))
        raise SystemProblem(f"there is no module {top} in {', '.join(folders)} or among the installed ones", near)

    def check(self, target: str, folders: Sequence[str], arguments: Mapping[str, Any] | None) -> str:
        """
        Return the import path of `module:callable`.

        `arguments`, where given, are held against the function's parameters.

        Raises:
            SystemProblem when module, callable or an argument is certainly wrong.
        """
        module, _, name = target.partition(":")
        folder = self.import_path(module, folders)
        definitions = self._defined_in(self._specs[folder, module])
        if definitions is not None:
            definitions.check(module, name, arguments)
        return folder

    def check_agent(self, target: str, folders: Sequence[str], arguments: Mapping[str, Any] | None) -> str:
        """
        Return the import path of `module:Class`.

        `arguments`, where given, are held against the parameters of its `init`.

        Raises:
            SystemProblem when module, class or an argument is certainly wrong.
        """
        module, _, name = target.partition(":")
        folder = self.import_path(module, folders)
        definitions = self._defined_in(self._specs[folder, module])
        if definitions is not None:
            definitions.check_agent(module, name, arguments)
        return folder

    def _find_top(self, top: str, folder: str) -> ModuleSpec | None:
        if (folder, top) not in self._specs:
            try:
                spec = PathFinder.find_spec(top, [folder]) if folder else importlib.util.find_spec(top)
            except (ValueError, ImportError):
                spec = None  # `__main__` and modules that were put into sys.modules by hand have no spec
            if spec is None or (folder and spec.loader is None and spec.origin is None and not _has_modules(spec)):
                return None
            self._specs[folder, top] = spec
        return self._specs[folder, top]

    def _find_below(self, spec: ModuleSpec, below: Sequence[str], folder: str, module: str) -> None:
        name = spec.name  # the full name; a submodule's spec has only the last one
        for part in below:
            parent, name = name, f"{name}.{part}"
            if (folder, name) not in self._specs:
                locations = list(spec.submodule_search_locations or ())
                # By its last name only: of a dotted one, a namespace package asks sys.modules for the parent.
                found = PathFinder.find_spec(part, locations) if locations else None
                if found is None:
                    near = did_you_mean(part, (known for place in locations for known in _module_names(place)))
                    raise SystemProblem(f"there is no module {module}: {parent} has no {part}", near)
                self._specs[folder, name] = found
            spec = self._specs[folder, name]

    def _defined_in(self, spec: ModuleSpec) -> Definitions | None:
        """Return what the source of a module defines, None where there is no source."""
        if not isinstance(spec.loader, SourceFileLoader) or spec.origin is None:
            return None
        if spec.origin not in self._definitions:
            try:
                with open(spec.origin, "rb") as opened:
                    tree = ast.parse(opened.read())
            except OSError as error:
                raise SystemProblem(f"cannot read {spec.origin}: {error.strerror}") from None
            except (SyntaxError, ValueError, RecursionError) as error:
                line = getattr(error, "lineno", None) or 1
                raise SystemProblem(f"{spec.origin}:{line}: {getattr(error, 'msg', error)}") from None
            self._definitions[spec.origin] = Definitions(tree)
        return self._definitions[spec.origin]


class Definitions:
    """The names that a module binds at its top, as far as its text tells."""

    def __init__(self, tree: ast.Module) -> None:
        self._bound: dict[str, ast.AST] = {}
        self._open = False  # star imports and __getattr__ bind names that the text does not show
        self._visit(tree)

    def check(self, module: str, name: str, arguments: Mapping[str, Any] | None) -> None:
        """
        Hold `module:name` and its keyword arguments against the text.

        Raises:
            SystemProblem when the name is not bound, is a plain value, or does not take the arguments.
        """
        node = self._find(module, name)
        if isinstance(node, ast.Constant):
            raise SystemProblem(f"{name} in the module {module} is not callable")
        if arguments is not None and isinstance(node, Function) and not node.decorator_list:
            _check_arguments(node, arguments)

    def check_agent(self, module: str, name: str, arguments: Mapping[str, Any] | None) -> None:
        """
        Hold the class `module:name` and the keyword arguments of its `init` against the text.

        Raises:
            SystemProblem when the name is not bound or is no agent's class, or `init` does not take the arguments.
        """
        node = self._find(module, name)
        if isinstance(node, ast.Constant | Function):
            raise SystemProblem(f"{name} in the module {module} is not a class", f"class {name}(Agent): …")
        if not isinstance(node, ast.ClassDef) or node.decorator_list:
            return
        if not node.bases and not node.keywords:
            raise SystemProblem(f"{name} in the module {module} is not an agent", f"class {name}(Agent): …")
        init = _init_of(node)
        if arguments is not None and init is not None:
            _check_arguments(init, arguments, f"{name}.init", bound=1)

    def _find(self, module: str, name: str) -> ast.AST | None:
        """Return what binds a name at the top of the module, None where the text cannot tell."""
        first, _, rest = name.partition(".")
        node = self._bound.get(first)
        if node is None and not self._open and first not in _MODULE_ATTRIBUTES:
            raise SystemProblem(f"the module {module} has no {first}", did_you_mean(first, self._bound))
        return None if rest and not isinstance(node, ast.Constant) else node

    def _visit(self, parent: ast.AST) -> None:
        for node in ast.iter_child_nodes(parent):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                self._bind(node.name, node)
            elif isinstance(node, ast.Import | ast.ImportFrom):
                for alias in node.names:
                    self._open |= alias.name == "*"
                    self._bind(alias.asname or alias.name.split(".")[0], node)
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                for name in _targets(node):
                    self._bind(name, node.value if isinstance(node.value, ast.Constant) else node)
                for target in node.targets if isinstance(node, ast.Assign) else ():
                    if not isinstance(target, ast.Name):
                        self._visit(target)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                self._bind(node.id, parent)
            elif not isinstance(node, ast.Lambda):
                self._visit(node)

    def _bind(self, name: str, node: ast.AST) -> None:
        self._open |= name == "__getattr__"
        again = name in self._bound and self._bound[name] is not node
        self._bound[name] = ast.Pass() if again else node  # bound twice: which one holds, only running tells


_MODULE_ATTRIBUTES = frozenset({"__name__", "__doc__", "__loader__", "__spec__", "__file__", "__path__"})


def _targets(node: ast.Assign | ast.AnnAssign) -> Iterator[str]:
    for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
        if isinstance(target, ast.Name):
            yield target.id


def _init_of(agent: ast.ClassDef) -> Function | None:
    """Return the `init` that a class itself defines, None where the text cannot tell which one it has."""
    found = [node for node in agent.body if isinstance(node, Function) and node.name == "init"]
    return found[0] if len(found) == 1 and not found[0].decorator_list else None


def _check_arguments(function: Function, arguments: Mapping[str, Any], called: str = "", *, bound: int = 0) -> None:
    """Raise SystemProblem unless the function, its first `bound` parameters given, takes exactly these by keyword."""
    parameters = function.args
    called = called or function.name
    positional = [*parameters.posonlyargs, *parameters.args]
    given = {parameter.arg for parameter in positional[:bound]}
    known = [parameter.arg for parameter in (*parameters.args, *parameters.kwonlyargs) if parameter.arg not in given]
    for name in arguments:
        if name not in known and (parameters.kwarg is None or name in given):
            raise SystemProblem(f"{called} takes no argument `{name}`", did_you_mean(name, known))
    required = positional[bound : len(positional) - len(parameters.defaults)]
    required += [it for it, default in zip(parameters.kwonlyargs, parameters.kw_defaults, strict=True) if not default]
    for parameter in required:
        if parameter.arg not in arguments:
            raise SystemProblem(f"{called} needs the argument `{parameter.arg}`", "write it into args")


def _has_modules(spec: ModuleSpec) -> bool:
    """Say whether a namespace package holds anything: a folder of that name alone means nothing."""
    return any(any(True for _ in _module_names(place)) for place in spec.submodule_search_locations or ())


def _module_names(folder: str) -> Iterator[str]:
    try:
        entries = sorted(os.listdir(folder))
    except OSError:
        return
    for entry in entries:
        name = inspect.getmodulename(entry) or (entry if os.path.isdir(os.path.join(folder, entry)) else "")
        if name.isidentifier() and name not in ("__init__", "__pycache__"):
            yield name
