"""Of large services' models only what is called is kept, as it is."""

from itertools import chain

import pytest
from botocore.loaders import Loader

from discovery.ecs.models import OPERATIONS, Models, cut


@pytest.mark.parametrize("service", sorted(OPERATIONS))
def test_what_is_called_is_kept_as_it_is(service: str) -> None:
    """With every shape that it is made of, and no other."""
    whole = Loader().load_service_model(service, "service-2")
    kept = Models(Loader()).load_service_model(service, "service-2")
    assert kept["operations"].keys() == OPERATIONS[service]
    assert kept["operations"].items() <= whole["operations"].items()
    assert kept["shapes"].items() <= whole["shapes"].items()
    assert len(kept["shapes"]) < len(whole["shapes"]) / 4
    assert kept["metadata"] == whole["metadata"]


def test_shapes_are_kept_however_deep_they_are_named() -> None:
    """In members, lists and maps; one may name itself."""
    model = {
        "operations": {"Get": {"input": {"shape": "Asked"}}, "Put": {"input": {"shape": "Other"}}},
        "shapes": {
            "Asked": {"type": "structure", "members": {"shape": {"shape": "Names"}}},
            "Names": {"type": "list", "member": {"shape": "Map"}},
            "Map": {"type": "map", "key": {"shape": "Text"}, "value": {"shape": "Names"}},
            "Text": {"type": "string"},
            "Other": {"type": "structure", "members": {}},
        },
    }
    kept = cut(model, {"Get"})
    assert list(chain(kept["operations"], sorted(kept["shapes"]))) == [
        *("Get", "Asked", "Map", "Names", "Text")
    ]


def test_other_models_are_botocores() -> None:
    """Small ones, and what else a client is made from."""
    models = Models(Loader())
    for service, kind in (("ecs", "service-2"), ("ec2", "endpoint-rule-set-1")):
        known = models.load_service_model(service, kind)
        assert known == Loader().load_service_model(service, kind)
