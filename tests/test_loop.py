"""The loop's edges: what a hostile delivery or a defect of ours may not do."""

from __future__ import annotations

from bot.loop import _decided, _readable
from bot.ports import Due
from schemas.events import Ticked
from tests.store.parts import T0


def test_a_lone_surrogate_in_a_delivery_becomes_a_question_mark() -> None:
    assert _readable(b'{"title": "a\\ud800b", "list": ["\\ud83d\\ude00"]}') == {"title": "a?b", "list": ["\U0001f600"]}


def test_an_event_that_our_code_fails_on_is_said_and_left_behind() -> None:
    broken = Due(seq=1, event=Ticked.model_construct(ticket="octo/app#1", at=None), ticket=object())  # type: ignore[arg-type]
    said = _decided(broken, T0)
    assert isinstance(said, str) and "a defect of Interlock" in said
