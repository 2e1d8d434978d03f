"""Tests of the action kubernetes.scale, with the real client over HTTP."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from remediator.action import Change, Effect, Happened
from remediator.errors import PermanentError, TemporaryError
from remediator.integrations._client import Unanswered
from remediator.integrations.kubernetes._wanted import Wish
from remediator.integrations.kubernetes.scale import Scale
from remediator.integrations.kubernetes.target import KubernetesTarget
from tests.integrations.kubernetes.apiserver import ApiServer, Fault, Grant
from tests.integrations.kubernetes.carrying import carried_out, shown, stored
from tests.integrations.support import HandClock, acting
from tests.servers import free_port

SCALE, STATEFUL = "deployments/scale", "statefulsets/scale"


def _scale(**parameters: Any) -> Scale:
    if "statefulset" not in parameters:
        parameters = {"deployment": "minting-worker", **parameters}
    return Scale.model_validate({"namespace": "production", **parameters})


async def _diff(action: Scale, target: KubernetesTarget) -> Change:
    return Change.from_json((await action.diff(target, acting())).as_json())


@pytest.mark.parametrize(
    ("parameters", "now", "wanted"),
    [
        ({"at_least": 5, "max": 10}, 3, 5),
        ({"at_least": 5, "max": 10}, 7, 7),
        ({"at_least": 5, "max": 10}, 12, 12),
        ({"at_most": 2}, 3, 2),
        ({"at_most": 5}, 3, 3),
        ({"at_most": 0, "min": 0}, 3, 0),
        ({"by": 2, "max": 10}, 3, 5),
        ({"by": 2, "max": 4}, 3, 4),
        ({"by": 2, "max": 4}, 6, 6),
        ({"by": -2}, 3, 1),
        ({"by": -9}, 3, 1),
        ({"by": -9, "min": 0}, 3, 0),
        ({"by": -1, "min": 4}, 3, 3),
        ({"exact": 5, "max": 5}, 3, 5),
        ({"exact": 2, "max": 5, "allow_down": True}, 3, 2),
        ({"exact": 3, "max": 5}, 3, 3),
        ({"at_least": 1, "max": 2, "from_zero": True}, 0, 1),
        ({"at_most": 2}, 0, 0),
    ],
)
async def test_the_number_wanted(
    api: ApiServer, target: KubernetesTarget, parameters: dict[str, Any], now: int, wanted: int
) -> None:
    """Each way to say how many gives the absolute number it promises, and nothing is written by looking."""
    api.add("deployments", "minting-worker", now)
    change = await _diff(_scale(**parameters), target)
    assert (change.before, change.after) == ({"replicas": now}, {"replicas": wanted})
    assert change.empty == (now == wanted)
    assert change.summary == f"scale deployment/production/minting-worker from {now} to {wanted}"
    assert api.writes() == []


@pytest.mark.parametrize(
    ("parameters", "now", "reason"),
    [
        ({"exact": 2, "max": 5}, 3, "would_lower"),
        ({"at_least": 5, "max": 10}, 0, "scaled_to_zero"),
        ({"exact": 3, "max": 9, "allow_down": True, "only_from": 5}, 4, "changed"),
    ],
)
async def test_what_the_rule_does_not_allow(
    api: ApiServer, target: KubernetesTarget, parameters: dict[str, Any], now: int, reason: str
) -> None:
    """Lowering by accident, raising what somebody turned off, and undoing another's change are refused."""
    api.add("deployments", "minting-worker", now)
    with pytest.raises(PermanentError) as caught:
        await _diff(_scale(**parameters), target)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({}, "exactly one of at_least"),
        ({"at_least": 5, "at_most": 6, "max": 9}, "exactly one of at_least"),
        ({"at_least": 5}, "write max, such as max: 10"),
        ({"by": 2}, "write max"),
        ({"exact": 2}, "write max"),
        ({"at_least": 5, "max": 4}, "above max"),
        ({"exact": 5, "max": 4}, "above max"),
        ({"exact": 0, "max": 4, "allow_down": True}, "write min: 0"),
        ({"at_most": 0}, "write min: 0"),
        ({"by": 0, "max": 4}, "must not be 0"),
        ({"at_least": -1, "max": 4}, "greater than or equal to 0"),
        ({"at_least": True, "max": 4}, "valid integer"),
        ({"at_least": "5", "max": 4}, "valid integer"),
        ({"at_most": 3, "allow_down": True}, "goes with exact"),
        ({"at_least": 3, "max": 4, "min": 5}, "above max"),
        ({"at_least": 3, "max": 4, "deployment": "a", "statefulset": "b"}, "exactly one of them"),
        ({"at_least": 3, "max": 4, "statefulset": None, "deployment": None}, "exactly one of them"),
        ({"at_least": 3, "max": 4, "deployment": "../pods"}, "pattern"),
        ({"at_least": 3, "max": 4, "namespace": "a.b"}, "pattern"),
        ({"at_least": 3, "max": 4, "force": True}, "force"),
    ],
)
def test_unsafe_rules_are_refused_at_load(parameters: dict[str, Any], message: str) -> None:
    """A rule that could raise without a limit, lower to nothing or mean two things is refused with what to write."""
    with pytest.raises(ValidationError, match=message):
        _scale(**parameters)


@given(
    current=st.integers(0, 200),
    which=st.sampled_from(["at_least", "at_most", "by", "exact"]),
    number=st.integers(-200, 200),
    floor=st.integers(0, 50),
    ceiling=st.integers(0, 200),
    allow_down=st.booleans(),
    from_zero=st.booleans(),
)
def test_never_past_the_bounds(
    current: int, which: str, number: int, floor: int, ceiling: int, allow_down: bool, from_zero: bool
) -> None:
    """For every rule that loads and every state: never raised above max, never lowered below min, never by accident."""
    parameters: dict[str, Any] = {which: number, "min": floor, "max": ceiling, "from_zero": from_zero}
    if which == "exact":
        parameters["allow_down"] = allow_down
    try:
        action = _scale(**parameters)
    except ValidationError:
        return
    wish: Wish = action._wish()
    try:
        wanted = wish.replicas(current)
    except PermanentError:
        return
    if wanted > current:
        assert wanted <= ceiling
        assert which != "at_most"
        assert from_zero or current > 0
    if wanted < current:
        assert wanted >= floor
        assert which in ("at_most", "by") or (which == "exact" and allow_down)


@pytest.mark.parametrize("kind", ["deployment", "statefulset"])
async def test_scale_verify_and_take_back(api: ApiServer, target: KubernetesTarget, kind: str) -> None:
    """Up, verified, seen as done, and back to exactly what was before."""
    name = {"deployment": "minting-worker", "statefulset": "queue"}[kind]
    action = _scale(**{kind: name}, at_least=5, max=10)
    change = await _diff(action, target)
    outcome = await action.apply(target, change, acting())
    assert outcome.data["replicas"] == 5
    assert api.replicas(f"{kind}s", name) == 5
    await action.verify(target, change, acting())
    assert (await _diff(action, target)).empty
    inverse = action.inverse(change)
    back = await _diff(inverse, target)
    assert back.after == {"replicas": 3}
    await inverse.apply(target, back, acting())
    await inverse.verify(target, back, acting())
    assert api.replicas(f"{kind}s", name) == 3
    assert (await _diff(inverse, target)).empty


async def test_the_request_is_small_and_conditional(api: ApiServer, target: KubernetesTarget) -> None:
    """One merge patch of the scale subresource with the version that was seen, under our field manager."""
    action = _scale(at_least=5, max=10)
    change = await _diff(action, target)
    version = api.objects["deployments", "production", "minting-worker"]["metadata"]["resourceVersion"]
    assert change.volatile["resource_version"] == version
    await action.apply(target, change, acting())
    (call,) = api.writes()
    assert (call.verb, call.resource, call.name) == ("patch", SCALE, "minting-worker")
    assert call.body == {"metadata": {"resourceVersion": version}, "spec": {"replicas": 5}}
    assert call.query == {"fieldManager": "remediator"}


async def test_a_newer_state_is_never_overwritten(api: ApiServer, target: KubernetesTarget) -> None:
    """If anything changed since the look, nothing is written and the engine looks again."""
    action = _scale(at_least=5, max=10)
    change = await _diff(action, target)
    api.set_replicas("deployments", "minting-worker", 8)
    with pytest.raises(TemporaryError, match="changed since it was read") as caught:
        await action.apply(target, change, acting())
    assert caught.value.reason == "conflict"
    assert api.replicas("deployments", "minting-worker") == 8
    assert (await _diff(action, target)).empty


async def test_by_is_fixed_when_shown(api: ApiServer, target: KubernetesTarget) -> None:
    """Applied twice, a relative change is made once: it was an absolute number for one version."""
    action = _scale(by=2, max=10)
    change = await _diff(action, target)
    await action.apply(target, change, acting())
    with pytest.raises(TemporaryError):
        await action.apply(target, change, acting())
    assert api.replicas("deployments", "minting-worker") == 5


async def test_taking_back_respects_somebody_else(api: ApiServer, target: KubernetesTarget) -> None:
    """If the replicas are no longer the ones we set, taking back is refused."""
    action = _scale(at_least=5, max=10)
    change = await _diff(action, target)
    await action.apply(target, change, acting())
    api.set_replicas("deployments", "minting-worker", 9)
    with pytest.raises(PermanentError) as caught:
        await _diff(action.inverse(change), target)
    assert caught.value.reason == "changed"


async def test_an_autoscaler_is_never_fought(api: ApiServer, target: KubernetesTarget) -> None:
    """What a HorizontalPodAutoscaler owns is left alone, also if it stands on a later page of the list."""
    for number in range(260):
        api.autoscale("Deployment", f"other-{number}")
    api.autoscale("StatefulSet", "minting-worker")
    assert (await _diff(_scale(at_least=5, max=10), target)).after == {"replicas": 5}
    api.autoscale("Deployment", "minting-worker")
    with pytest.raises(PermanentError, match="minting-worker-hpa") as caught:
        await _diff(_scale(at_least=5, max=10), target)
    assert caught.value.reason == "hpa_owned"


async def test_the_literal_five_of_the_runbook_never_lowers(api: ApiServer, target: KubernetesTarget) -> None:
    """T5: kubectl scale --replicas=5 at 8 replicas takes three away in an incident; at_least does nothing there."""
    api.add("deployments", "minting-worker", 8)
    assert (await _diff(_scale(at_least=5, max=10), target)).empty
    with pytest.raises(PermanentError) as caught:
        await _diff(_scale(exact=5, max=10), target)
    assert caught.value.reason == "would_lower"


@pytest.mark.parametrize(
    ("parameters", "limits", "wanted"),
    [
        ({"at_least": 5, "max": 10}, (2, 8), (5, 8)),
        ({"at_least": 5, "max": 10}, (2, 4), (5, 5)),
        ({"at_least": 5, "max": 10}, (6, 8), (6, 8)),
        ({"by": 2, "max": 4}, (2, 4), (4, 4)),
        ({"by": 2, "max": 10}, (1, 3), (5, 5)),
        ({"at_most": 2}, (1, 8), (1, 2)),
        ({"at_most": 2}, (4, 8), (2, 2)),
        ({"by": -5}, (2, 8), (1, 1)),
        ({"at_most": 9}, (2, 8), (2, 8)),
    ],
)
@pytest.mark.parametrize("keda", [False, True])
async def test_the_limits_of_an_autoscaler_are_the_lever(
    api: ApiServer,
    target: KubernetesTarget,
    parameters: dict[str, Any],
    limits: tuple[int, int],
    wanted: tuple[int, int],
    keda: bool,
) -> None:
    """Where the rule allows it, the autoscaler's own limits move, only as far as they must and within max and min; of
    KEDA those of the ScaledObject, which would put the others back. The stored way back restores them."""
    lever = ("scaledobjects", "production", "minting-worker")
    names = ("minReplicaCount", "maxReplicaCount")
    if keda:
        api.scaled_object("Deployment", "minting-worker", minReplicaCount=limits[0], maxReplicaCount=limits[1])
    else:
        lever = ("horizontalpodautoscalers", "production", api.autoscale("Deployment", "minting-worker", limits=limits))
        names = ("minReplicas", "maxReplicas")
    api.act()
    action = _scale(autoscaler="limits", **parameters)
    change = await _diff(action, target)
    assert (change.after["least"], change.after["most"]) == wanted
    assert change.empty == (limits == wanted)
    await action.apply(target, change, acting())
    await action.verify(target, change, acting())
    assert tuple(api.objects[lever]["spec"][name] for name in names) == wanted
    assert wanted[0] <= api.replicas("deployments", "minting-worker") <= wanted[1]
    assert await action.reconcile(target, change, acting()) is Happened.YES
    assert {call.resource for call in api.writes()} == {lever[0]}
    inverse = stored(action.inverse(change))
    await carried_out(inverse, target)
    assert tuple(api.objects[lever]["spec"][name] for name in names) == limits
    assert (await shown(inverse, target)).empty


async def test_keda_is_seen_without_any_right_on_its_objects(api: ApiServer, target: KubernetesTarget) -> None:
    """The list of autoscalers is enough to know that KEDA owns the replicas: a missing right on its own objects is
    never taken for nobody's replicas."""
    api.scaled_object("Deployment", "minting-worker", minReplicaCount=2, maxReplicaCount=8)
    core = {"deployments/scale", "deployments", "horizontalpodautoscalers"}
    api.grants = [Grant(frozenset({"get", "list", "patch"}), frozenset(core))]
    with pytest.raises(PermanentError, match="KEDA ScaledObject minting-worker") as caught:
        await _diff(_scale(at_least=5, max=10), target)
    assert caught.value.reason == "hpa_owned"
    with pytest.raises(PermanentError, match="get scaledobjects") as denied:
        await _diff(_scale(at_least=5, max=10, autoscaler="limits"), target)
    assert denied.value.reason == "status_403"


async def test_limits_that_somebody_else_moves_are_theirs(api: ApiServer, target: KubernetesTarget) -> None:
    """Limits that change under the change are a conflict, those that change later are noticed, and the way back
    refuses them."""
    name = api.autoscale("Deployment", "minting-worker", limits=(2, 8))
    action = _scale(at_least=5, max=10, autoscaler="limits")
    change = await _diff(action, target)
    api.change("horizontalpodautoscalers", name, maxReplicas=6)
    with pytest.raises(TemporaryError) as conflict:
        await action.apply(target, change, acting())
    assert conflict.value.reason == "conflict"
    change = await carried_out(action, target)
    api.change("horizontalpodautoscalers", name, minReplicas=1)
    for call in (action.verify(target, change, acting()), _diff(action.inverse(change), target)):
        with pytest.raises(PermanentError) as caught:
            await call
        assert caught.value.reason == "changed"


async def test_what_limits_cannot_say_is_refused(api: ApiServer, target: KubernetesTarget) -> None:
    """An exact number, something scaled to 0, two autoscalers, and another autoscaler than the Role names."""
    api.autoscale("Deployment", "minting-worker", limits=(2, 8))
    refused = [
        (_scale(exact=5, max=10, autoscaler="limits"), "hpa_owned"),
        (_scale(at_least=5, max=10, autoscaler="limits", autoscaler_name="other"), "hpa_owned"),
    ]
    for action, reason in refused:
        with pytest.raises(PermanentError) as caught:
            await _diff(action, target)
        assert caught.value.reason == reason
    action = _scale(at_least=5, max=10, autoscaler="limits")
    api.add("deployments", "minting-worker", 0)
    api.autoscale("Deployment", "minting-worker", limits=(2, 8))
    with pytest.raises(PermanentError) as caught:
        await _diff(action, target)
    assert caught.value.reason == "scaled_to_zero"
    api.autoscale("Deployment", "minting-worker", called="second")
    with pytest.raises(PermanentError, match="more than one"):
        await _diff(action, target)


async def test_limits_without_an_autoscaler_scale(api: ApiServer, target: KubernetesTarget) -> None:
    """Where no autoscaler is, the replicas themselves are set."""
    await carried_out(_scale(at_least=5, max=10, autoscaler="limits"), target)
    assert api.replicas("deployments", "minting-worker") == 5


async def test_replicas_that_git_keeps(api: ApiServer, target: KubernetesTarget, clock: HandClock) -> None:
    """Refused where Git holds the number; done and watched with allow_drift, and seen when it is put back; and none of
    Git's business where Git leaves the number out."""
    found = api.get("deployments", "minting-worker")["metadata"]
    found["labels"] = {"argocd.argoproj.io/instance": "minting"}
    with pytest.raises(PermanentError) as caught:
        await _diff(_scale(at_least=5, max=10), target)
    assert caught.value.reason == "gitops_owned"
    action = _scale(at_least=5, max=10, allow_drift=True, drift_after="3m")
    change = Change.from_json((await action.diff(target, acting(clock))).as_json())
    await action.apply(target, change, acting(clock))
    with pytest.raises(TemporaryError) as waiting:
        await action.verify(target, change, acting(clock))
    assert waiting.value.reason == "drift"
    clock.at += 181
    await action.verify(target, change, acting(clock))
    api.set_replicas("deployments", "minting-worker", 3)
    with pytest.raises(PermanentError) as reverted:
        await action.verify(target, change, acting(clock))
    assert reverted.value.reason == "changed"
    fields: dict[str, Any] = {"f:spec": {"f:template": {}}}
    api.objects["deployments", "production", "minting-worker"]["metadata"]["managedFields"] = [
        {"manager": "argocd-controller", "operation": "Apply", "fieldsV1": fields}
    ]
    assert not (await _diff(_scale(at_least=5, max=10), target)).empty


async def test_an_unseen_autoscaler_is_said(api: ApiServer, target: KubernetesTarget) -> None:
    """Without the right to list autoscalers the change says that nobody looked; other failures stop it."""
    api.grants = [Grant(frozenset({"get", "patch"}), frozenset({SCALE}))]
    change = await _diff(_scale(at_least=5, max=10), target)
    assert "HPA not checked" in change.summary
    api.grants = None
    api.faults.append(Fault("list", "horizontalpodautoscalers", 500))
    with pytest.raises(TemporaryError, match="list horizontalpodautoscalers"):
        await _diff(_scale(at_least=5, max=10), target)


async def test_scaling_needs_only_the_scale_subresource(api: ApiServer, target: KubernetesTarget) -> None:
    """The least Role is enough to look and act; verifying needs to read the deployment and says so."""
    api.grants = [Grant(frozenset({"get", "patch"}), frozenset({SCALE}), frozenset({"minting-worker"}))]
    action = _scale(at_least=5, max=10)
    change = await _diff(action, target)
    await action.apply(target, change, acting())
    with pytest.raises(PermanentError, match=r"get deployments .*grant this verb"):
        await action.verify(target, change, acting())
    api.grants = [Grant(frozenset({"get"}), frozenset({SCALE}))]
    with pytest.raises(PermanentError, match="patch deployments/scale") as caught:
        await action.apply(target, change, acting())
    assert caught.value.reason == "status_403"


async def test_verify_waits_for_ready_replicas(api: ApiServer, target: KubernetesTarget) -> None:
    """Until the replicas are ready it does not hold yet; when they are, it does."""
    api.settle = 0.3
    action = _scale(at_least=5, max=10)
    change = await _diff(action, target)
    await action.apply(target, change, acting())
    with pytest.raises(TemporaryError) as caught:
        await action.verify(target, change, acting())
    assert caught.value.reason in ("not_observed", "not_ready")
    await asyncio.sleep(0.35)
    await action.verify(target, change, acting())


@pytest.mark.parametrize(
    ("status", "error", "reason"),
    [
        ({"readyReplicas": 4, "updatedReplicas": 5, "availableReplicas": 4}, TemporaryError, "not_ready"),
        ({"readyReplicas": 5, "updatedReplicas": 4, "availableReplicas": 5}, TemporaryError, "not_ready"),
        ({"readyReplicas": 5, "updatedReplicas": 5, "availableReplicas": 4}, TemporaryError, "not_ready"),
        ({"observedGeneration": 1, "readyReplicas": 5, "updatedReplicas": 5, "availableReplicas": 5},
         TemporaryError, "not_observed"),
        ({"conditions": [{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}]},
         PermanentError, "progress_deadline"),
    ],
)  # fmt: skip
async def test_verify_reads_the_rollout(
    api: ApiServer, target: KubernetesTarget, status: dict[str, Any], error: type[Exception], reason: str
) -> None:
    """Updated, ready and available all have to be there; a missed progress deadline is the end."""
    action = _scale(at_least=5, max=10)
    change = await _diff(action, target)
    await action.apply(target, change, acting())
    found = api.objects["deployments", "production", "minting-worker"]
    api.due.clear()
    found["status"] = {"observedGeneration": 2, "replicas": 5, **status}
    with pytest.raises(error) as caught:
        await action.verify(target, change, acting())
    assert getattr(caught.value, "reason", "") == reason


async def test_verify_sees_that_somebody_lowered_it(api: ApiServer, target: KubernetesTarget) -> None:
    """If somebody takes the change away it will never hold; if somebody goes further up it still holds."""
    action = _scale(at_least=5, max=10)
    change = await _diff(action, target)
    await action.apply(target, change, acting())
    api.set_replicas("deployments", "minting-worker", 9)
    await action.verify(target, change, acting())
    api.set_replicas("deployments", "minting-worker", 2)
    with pytest.raises(PermanentError) as caught:
        await action.verify(target, change, acting())
    assert caught.value.reason == "changed"


async def test_reconcile_after_a_crash(api: ApiServer, target: KubernetesTarget) -> None:
    """As wanted: yes. As before: no. Anything else: unknown."""
    action = _scale(at_least=5, max=10)
    change = await _diff(action, target)
    assert await action.reconcile(target, change, acting()) is Happened.NO
    await action.apply(target, change, acting())
    assert await action.reconcile(target, change, acting()) is Happened.YES
    api.set_replicas("deployments", "minting-worker", 7)
    assert await action.reconcile(target, change, acting()) is Happened.UNKNOWN


@pytest.mark.parametrize("kind", [500, 503, 504, "hang", "reset", "garbage", "html"])
@pytest.mark.parametrize("after", [False, True])
async def test_a_lost_answer_is_unknown(api: ApiServer, tmp_path: Path, kind: int | str, after: bool) -> None:
    """Whether the patch was carried out cannot be told from a lost answer, it is sent once, and reconcile tells."""
    target = KubernetesTarget.model_validate({"kubeconfig": api.kubeconfig(tmp_path), "request_timeout": "200ms"})
    action = _scale(at_least=5, max=10)
    change = await _diff(action, target)
    api.faults.append(Fault("patch", SCALE, kind, after=after))  # type: ignore[arg-type]  # parametrized
    with pytest.raises(Unanswered, match="unknown"):
        await action.apply(target, change, acting())
    assert len(api.writes()) == 1
    assert await action.reconcile(target, change, acting()) is (Happened.YES if after else Happened.NO)
    await target.close()


async def test_a_busy_api_server_did_nothing(api: ApiServer, target: KubernetesTarget) -> None:
    """429 is flow control before anything is carried out: temporary."""
    action = _scale(at_least=5, max=10)
    change = await _diff(action, target)
    api.faults.append(Fault("patch", SCALE, 429))
    with pytest.raises(TemporaryError) as caught:
        await action.apply(target, change, acting())
    assert caught.value.reason == "status_429"


@pytest.mark.parametrize("code", [400, 404, 422])
async def test_a_refused_patch_is_permanent(api: ApiServer, target: KubernetesTarget, code: int) -> None:
    """The API server refused: it did not happen, and the message names the call."""
    action = _scale(at_least=5, max=10)
    change = await _diff(action, target)
    api.faults.append(Fault("patch", SCALE, code))
    with pytest.raises(PermanentError, match='cannot patch deployments/scale "minting-worker" in namespace production'):
        await action.apply(target, change, acting())


async def test_no_connection_did_nothing(api: ApiServer, target: KubernetesTarget, tmp_path: Path) -> None:
    """A refused connection is temporary also for a write."""
    action = _scale(at_least=5, max=10)
    change = await _diff(action, target)
    api.url = f"http://127.0.0.1:{free_port()}"
    lost = KubernetesTarget(kubeconfig=api.kubeconfig(tmp_path))
    with pytest.raises(TemporaryError) as caught:
        await action.apply(lost, change, acting())
    assert caught.value.reason == "connect"
    await lost.close()


async def test_nothing_leaves_after_the_licence_ran_out(api: ApiServer, target: KubernetesTarget) -> None:
    """Not a byte of the patch is sent once the licence ran out."""
    clock = HandClock()
    context = acting(clock)
    action = _scale(at_least=5, max=10)
    change = await _diff(action, target)
    clock.at = context.deadline + 1
    with pytest.raises(TemporaryError) as caught:
        await action.apply(target, change, context)
    assert caught.value.reason == "licence_expired"
    assert api.writes() == []


def test_what_it_declares() -> None:
    """Effect class, subject and needs are those of the object."""
    action = _scale(at_least=5, max=10)
    assert action.effect_on(KubernetesTarget()) is Effect.CONDITIONAL
    assert action.subject() == "deployment/production/minting-worker"
    assert action.needs() == {"namespaces": "production", "deployments": "minting-worker"}
    assert _scale(statefulset="queue", at_most=3).needs() == {"namespaces": "production", "statefulsets": "queue"}
