"""botocore's models of large services, cut to the operations that are called here.

A client keeps the model of its service for good: EC2's has 830 operations, which take 15 MB.

Importing this module loads botocore.
"""

from collections.abc import Iterator, Mapping, Set
from typing import Any

from botocore.loaders import Loader

Model = dict[str, Any]

OPERATIONS = {
    "ec2": {"DescribeInstances", "DescribeNetworkInterfaces"},
    "ssm": {"DescribeInstanceInformation"},
}


class Models(Loader):
    """botocore's loader, with the search paths of another one, but for models of large services."""

    def __init__(self, like: Loader) -> None:
        super().__init__(extra_search_paths=like.search_paths, include_default_search_paths=False)

    def load_service_model(
        self, service_name: str, type_name: str, api_version: str | None = None
    ) -> Any:
        """What botocore's gives; of a large service the part that is called."""
        if type_name != "service-2" or service_name not in OPERATIONS:
            return super().load_service_model(service_name, type_name, api_version)
        # By another loader: one keeps all that it ever loaded.
        whole = Loader(self.search_paths, include_default_search_paths=False)
        model = whole.load_service_model(service_name, type_name, api_version)
        return cut(model, OPERATIONS[service_name])


def cut(model: Model, operations: Set[str]) -> Model:
    """The model with these operations alone, and the shapes that they are made of."""
    kept = {name: each for name, each in model["operations"].items() if name in operations}
    shapes: Model = {}
    waiting = [name for each in kept.values() for name in _named(each)]
    while waiting:
        name = waiting.pop()
        if name not in shapes:
            shapes[name] = model["shapes"][name]
            waiting += _named(shapes[name])
    return {**model, "operations": kept, "shapes": shapes}


def _named(part: Any) -> Iterator[str]:
    """The shapes that a part of a model names."""
    if isinstance(part, Mapping):
        for key, value in part.items():
            if key == "shape" and isinstance(value, str):
                yield value
            else:
                yield from _named(value)
    elif isinstance(part, list):
        for each in part:
            yield from _named(each)
