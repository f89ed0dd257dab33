"""Pretraining without labels is handed no label, and no frame of validation or test."""

from __future__ import annotations

from typing import Any

from scripts.data.pretraining import images_only


def item(name: str, label: bool = True) -> dict[str, Any]:
    return {"image": f"/d/{name}", "file": name, "group": name} | ({"label": f"/m/{name}"} if label else {})


def test_what_is_handed_over() -> None:
    sections = {
        "training": [item("c.png"), item("a.png")], "unlabeled": [item("b.png", label=False)],
        "validation": [item("v.png")], "test": [item("t.png")],
    }  # fmt: skip
    expected = [item(name, label=False) for name in ("a.png", "b.png", "c.png")]
    assert images_only(sections) == expected
    assert images_only(sections, ["validation"]) == [item("v.png", label=False)]
    assert "label" in sections["training"][0], "the sections are left as they are"


def test_only_what_every_frame_has_is_handed_over() -> None:
    """Frames with and without a grade, or a mask that was mined, would make no batch."""
    more = {"severity": 2.0, "pseudo_label": "/p/b.png", "weight": 0.5}
    sections = {"training": [item("a.png")], "unlabeled": [item("b.png", label=False) | more, item("c.png", False)]}
    assert [set(found) for found in images_only(sections)] == [{"image", "file", "group"}] * 3


def test_which_frames_have_labels_does_not_show() -> None:
    few = {"training": [item("c.png")], "unlabeled": [item("a.png", label=False), item("b.png", label=False)]}
    many = {"training": [item("a.png"), item("b.png"), item("c.png")], "unlabeled": []}
    assert images_only(few) == images_only(many)
