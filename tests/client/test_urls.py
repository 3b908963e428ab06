"""Which URLs are ours, and what they ask for."""

import pytest

from discovery.client.urls import name_in

LABELS = ("demo", "Prod")


@pytest.mark.parametrize(
    ("host", "port", "want"),
    [
        ("web", None, "web"),
        ("web", 8080, "_8080._tcp.web"),
        ("web.demo", None, "web.demo"),
        ("web.prod", None, "web.prod"),
        ("WEB.DEMO", 80, "_80._tcp.WEB.DEMO"),
        ("web.demo.ecs.internal", None, "web.demo.ecs.internal"),
        ("web.ecs.internal.", None, "web.ecs.internal"),
        ("_admin._tcp.web", None, "_admin._tcp.web"),
        ("_admin._tcp.web.prod", 80, "_admin._tcp.web.prod"),
        ("web.other", None, None),
        ("a.b.demo", None, None),
        ("_admin._tcp.web.other", None, None),
        ("example.com", 443, None),
        ("demo.example.com", None, None),
        ("localhost", 8000, None),
        ("127.0.0.1", 80, None),
        ("2130706433", None, None),
        ("::1", None, None),
        ("fe80::1", 80, None),
        ("", None, None),
    ],
)
def test_ours_are_names_in_the_zone_single_labels_and_known_clusters(
    host: str, port: int | None, want: str | None
) -> None:
    """A port is the container's; a named port goes before it; the rest is the world's."""
    assert name_in(host, port, LABELS, "ecs.internal") == want
