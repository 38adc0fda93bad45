"""Functions and classes of Kitaru 0.21 and earlier, implemented with today's API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kitaru import config
from kitaru.errors import NotFound, UsageError
from kitaru.handle import Handle
from kitaru.primitives import secret
from kitaru.runtime import _get_current_execution_id
from kitaru.runtime import secrets as keeper
from kitaru.wire.starts import refuse_while_importing
from kitaru.wire.structs import Struct

FlowHandle = Handle


class ImageSettings(Struct):
    """Description of a flow's container image.

    `@flow(image=…)` and `kitaru.configure(image=…)` accept it: `base_image` becomes the image, and
    `environment` the variables of every step. Other parts of an image belong in its Dockerfile, or
    in `[tool.kitaru] requirements`; their fields are rejected where they would be ignored.
    """

    base_image: str | None = None
    environment: Mapping[str, str] | None = None
    requirements: Any = None
    dockerfile: str | None = None
    secret_environment_from: Any = None
    apt_packages: Any = None
    platform: str | None = None
    user: str | None = None

    def as_settings(self, where: str) -> dict[str, Any]:
        """Return the equivalent settings; raise UsageError for a field that has none."""
        for name, instead in _OF_IMAGES.items():
            if getattr(self, name):
                raise UsageError(f"{where}: ImageSettings({name}=…) has no effect.", help=instead)
        named = {"image": self.base_image, "environment": self.environment}
        return {name: value for name, value in named.items() if value}


_IN_DOCKERFILE = "Write it in the Dockerfile of the image, and name the image: image=REF"
_OF_IMAGES = {
    "requirements": 'Name a file in pyproject.toml: [tool.kitaru] requirements = "FILE"',
    "dockerfile": "Build the image from it, and name the image: image=REF",
    "secret_environment_from": "Read each with kitaru.secret(NAME), from [tool.kitaru.secrets].",
    "apt_packages": _IN_DOCKERFILE,
    "platform": _IN_DOCKERFILE,
    "user": _IN_DOCKERFILE,
}


class StackInfo(Struct):
    """A stack: its name, and whether it is active."""

    name: str
    is_active: bool
    settings: dict[str, Any]

    @property
    def id(self) -> str:
        """The name: a stack has no other id."""
        return self.name


def current_execution_id() -> str:
    """Return the id of the execution that runs, in a flow's body or a checkpoint.

    Raises:
        ContextError: called outside a flow.

    Example:
        exec_id = kitaru.current_execution_id()
    """
    return _get_current_execution_id()


def get_secret(name: str) -> str:
    """Return the value of a secret, as `kitaru.secret` does; raises NotFound."""
    return secret(name)


def create_secret(name: str, value: str) -> None:
    """Store a secret for this user, as `kitaru secrets set` does.

    Raises:
        UsageError: the name is not one, or the value is not a string of at least one character.
    """
    refuse_while_importing("kitaru.create_secret(…)")
    if not isinstance(value, str) or not value:
        raise UsageError(
            f"The value of {name} is not a string of at least one character.",
            help="A secret is one string. Store each of several under a name of its own.",
        )
    keeper.keep(name, value)


def delete_secret(name: str) -> None:
    """Delete a secret that is stored for this user; raises NotFound."""
    refuse_while_importing("kitaru.delete_secret(…)")
    if not keeper.forget(name):
        raise NotFound(f"There is no secret {name} kept for this user.", help="kitaru secrets list")


def list_stacks() -> list[StackInfo]:
    """Return the stacks, sorted by name."""
    used = config.stack().value
    return [StackInfo(n, n == used, dict(s)) for n, s in sorted(config.stacks().items())]


def current_stack() -> StackInfo:
    """Return the stack in force. Raises NotFound if no stack is in force."""
    found = next((one for one in list_stacks() if one.is_active), None)
    if found is None:
        raise NotFound("No stack is in force.", help="kitaru stack use NAME")
    return found


def use_stack(name: str) -> StackInfo:
    """Make a stack the one in force in this project, for this user; raises UsageError."""
    refuse_while_importing("kitaru.use_stack(…)")
    config.use_stack(name)
    return next(one for one in list_stacks() if one.name == name)


def create_stack(name: str, **settings: Any) -> StackInfo:
    """Create a stack in the user's configuration.

    Args:
        settings: settings by name, such as `target="vertex", store="gs://bucket/prefix"`.

    Raises:
        UsageError: a setting does not exist or has a wrong type, or the stack exists.

    Example:
        kitaru.create_stack("prod", target="vertex", store="gs://bucket/flows")
    """
    refuse_while_importing("kitaru.create_stack(…)")
    config.create_stack(name, settings)
    return next(one for one in list_stacks() if one.name == name)


def delete_stack(name: str) -> None:
    """Delete a stack of the user's configuration; raises UsageError."""
    refuse_while_importing("kitaru.delete_stack(…)")
    config.delete_stack(name)
