"""Steps go stage by stage, and a refusal stops what must not follow it."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from cluster.director.kernel import NOT_TRIED, do_in_stages
from cluster.ipvs.plan import Operation, Step
from cluster.ipvs.state import Protocol, Service, ServiceKey
from tests.ipvs.tables import few

SERVICES = [Service(ServiceKey(Protocol.TCP, f"192.0.2.{last}", 80)) for last in (1, 2, 3)]
STAGE = {
    Operation.ADD_SERVICE: 1,
    Operation.SET_SERVICE: 1,
    Operation.ADD_BACKEND: 2,
    Operation.SET_BACKEND: 3,
    Operation.REMOVE_BACKEND: 4,
    Operation.REMOVE_SERVICE: 5,
}
CODES = st.sampled_from([0, 0, 0, 22])
ASKED = st.tuples(st.builds(Step, st.sampled_from(Operation), st.sampled_from(SERVICES)), CODES)


@few
@given(st.lists(ASKED, max_size=12))
def test_a_refusal_stops_the_later_stages_of_its_service_and_every_removal_of_one(
    asked: list[tuple[Step, int]],
) -> None:
    steps, codes = [step for step, _ in asked], [code for _, code in asked]
    sent: list[list[int]] = []

    def send(turn: Sequence[Step]) -> list[int]:
        sent.append([next(n for n, step in enumerate(steps) if step is one) for one in turn])
        return [codes[place] for place in sent[-1]]

    answers = do_in_stages(steps, send)
    assert [answer.step for answer in answers] == steps
    refused: list[Step] = []
    for stage in range(1, 6):
        places = [place for place, step in enumerate(steps) if STAGE[step.operation] == stage]
        tried = [
            place
            for place in places
            if not (stage == 5 and refused)
            and all(one.service.key != steps[place].service.key for one in refused)
        ]
        assert [answers[place].errno for place in places] == [
            codes[place] if place in tried else NOT_TRIED for place in places
        ]
        assert not tried or sent.pop(0) == tried
        refused += [steps[place] for place in tried if codes[place]]
    assert sent == []
