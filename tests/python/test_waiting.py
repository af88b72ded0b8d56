import asyncio
import time
from typing import Any

import pytest

from treadle import (
    Context,
    Event,
    EventLoopError,
    RunCancelled,
    RunEnded,
    RunStalled,
    StartEvent,
    StopEvent,
    WaitTimeout,
    Workflow,
    step,
)


class Answer(Event):
    n: int = 0
    who: str = ""


class Better(Answer):
    pass


class Other(Event):
    n: int = 0


def waiting(**options: Any) -> Workflow:
    @step
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        return StopEvent(result=await ctx.wait_for_event(Answer, **options))

    return Workflow("waiting", [work])


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


# wait_for_event


async def test_a_step_waits_until_an_event_is_sent_in():
    run = waiting().run()
    await settle()
    assert run.status == "waiting"
    event = Answer(n=1)
    run.send_event(event)
    assert await run is event


async def test_an_event_of_a_subclass_is_taken_and_one_of_another_class_is_not():
    run = waiting().run()
    await settle()
    run.send_event(Other())
    await settle()
    assert run.status == "waiting"
    run.send_event(Better(n=2))
    assert await run == Better(n=2)


@pytest.mark.parametrize(
    "match",
    [lambda ev: ev.n > 5, {"n": 7}, {"n": 7, "who": "me"}],
    ids=["function", "dict", "two fields"],
)
async def test_only_an_event_that_matches_is_taken(match: Any):
    run = waiting(match=match).run()
    await settle()
    run.send_event(Answer(n=1, who="me"))
    await settle()
    assert run.status == "waiting"
    run.send_event(Answer(n=7, who="me"))
    assert (await run).n == 7


async def test_a_match_on_a_field_that_the_event_lacks_is_no_match():
    run = waiting(match={"nope": None}, timeout=0.02).run()
    await settle()
    run.send_event(Answer())
    with pytest.raises(WaitTimeout):
        await run


async def test_the_dict_of_a_match_is_copied():
    match = {"n": 1}
    run = waiting(match=match).run()
    await settle()
    match["n"] = 2
    run.send_event(Answer(n=1))
    assert (await asyncio.wait_for(run, 1)).n == 1


@pytest.mark.parametrize("match", [5, "n", [1]])
async def test_what_cannot_match_is_a_type_error(match: Any):
    with pytest.raises(TypeError, match="match"):
        await waiting(match=match).run()


@pytest.mark.parametrize("cls", [5, "Answer", Answer()])
async def test_what_is_no_class_is_a_type_error(cls: Any):
    @step
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        return StopEvent(result=await ctx.wait_for_event(cls))

    with pytest.raises(TypeError):
        await Workflow("w", [work]).run()


@pytest.mark.parametrize(
    "how", ["before the run began", "while the step computes", "from a thread"]
)
async def test_an_event_that_was_sent_before_is_there(how: str):
    release = asyncio.Event()

    @step
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        await release.wait()
        return StopEvent(result=(await ctx.wait_for_event(Answer, timeout=1)).n)

    run = Workflow("w", [work]).run()
    if how != "before the run began":
        await settle()
    if how == "from a thread":
        await asyncio.to_thread(run.send_event, Answer(n=3))
    else:
        run.send_event(Answer(n=3))
    release.set()
    assert await run == 3


async def test_events_that_were_sent_before_are_taken_in_their_order_and_once():
    release = asyncio.Event()

    @step
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        await release.wait()
        got = [(await ctx.wait_for_event(Answer, match=lambda ev: ev.n != 2)).n for _ in range(3)]
        got.append((await ctx.wait_for_event(Answer)).n)
        with pytest.raises(WaitTimeout):
            await ctx.wait_for_event(Answer, timeout=0.01)
        return StopEvent(result=got)

    run = Workflow("w", [work]).run()
    for n in range(4):
        run.send_event(Answer(n=n))
    release.set()
    assert await run == [0, 1, 3, 2]


async def test_a_wait_that_takes_too_long_raises_in_the_step():
    @step
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        with pytest.raises(WaitTimeout, match="Answer") as caught:
            await ctx.wait_for_event(Answer, timeout=0.02)
        assert isinstance(caught.value, TimeoutError)
        return StopEvent(result="went on")

    assert await Workflow("w", [work]).run() == "went on"


async def test_a_wait_that_times_out_takes_no_event_with_it():
    @step
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        with pytest.raises(WaitTimeout):
            await ctx.wait_for_event(Answer, timeout=0.005)
        runs[0].send_event(Answer(n=4))
        return StopEvent(result=(await ctx.wait_for_event(Answer, timeout=1)).n)

    runs = [Workflow("w", [work]).run()]
    assert await runs[0] == 4


async def test_the_body_does_not_run_again():
    begun: list[int] = []

    @step
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        begun.append(ctx.attempt)
        first = await ctx.wait_for_event(Answer)
        second = await ctx.wait_for_event(Answer)
        return StopEvent(result=(first.n, second.n))

    run = Workflow("w", [work]).run()
    for n in (1, 2):
        await settle()
        run.send_event(Answer(n=n))
    assert await run == (1, 2)
    assert begun == [1]


async def test_each_of_many_waiters_gets_one_event_first_come_first_served():
    class Go(Event):
        n: int

    @step
    async def begin(ev: StartEvent) -> list[Go]:
        return [Go(n=n) for n in range(100)]

    @step
    async def work(ctx: Context, ev: Go) -> StopEvent | None:
        got = await ctx.wait_for_event(Answer)
        pairs = ctx.update("pairs", lambda pairs: [*pairs, [ev.n, got.n]], default=[])
        return StopEvent(result=pairs) if len(pairs) == 100 else None

    run = Workflow("w", [begin, work]).run()
    await asyncio.sleep(0.05)
    for n in range(100):
        run.send_event(Answer(n=n))
    assert await asyncio.wait_for(run, 5) == [[n, n] for n in range(100)]


async def test_waiters_that_match_different_events_each_get_their_own():
    @step
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        async def wait(n: int) -> int:
            return (await ctx.wait_for_event(Answer, match={"n": n})).n

        return StopEvent(result=await asyncio.gather(*(wait(n) for n in range(50))))

    run = Workflow("w", [work]).run()
    await settle()
    for n in reversed(range(50)):
        run.send_event(Answer(n=n))
    assert await run == list(range(50))


async def test_two_runs_wait_each_for_its_own_event():
    workflow = waiting()
    first, second = workflow.run(), workflow.run()
    await settle()
    second.send_event(Answer(n=2))
    assert (await second).n == 2
    assert first.status == "waiting"
    first.send_event(Answer(n=1))
    assert (await first).n == 1


async def test_an_event_of_another_step_reaches_the_one_that_waits():
    @step
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        return StopEvent(result=(await ctx.wait_for_event(Answer)).n)

    @step
    async def send(ctx: Context, ev: StartEvent) -> None:
        await asyncio.sleep(0.005)
        ctx.send_event(Answer(n=9))

    assert await Workflow("w", [work, send]).run() == 9


async def test_an_event_that_somebody_waits_for_does_not_go_to_the_steps_as_well():
    taken: list[int] = []

    @step
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        await ctx.wait_for_event(Answer, match={"n": 1})
        await asyncio.sleep(0.01)
        return StopEvent()

    @step(external=True)
    async def take(ev: Answer) -> None:
        taken.append(ev.n)

    run = Workflow("w", [work, take]).run()
    await settle()
    run.send_event(Answer(n=0))
    run.send_event(Answer(n=1))
    run.send_event(Answer(n=1))
    await run
    assert taken == [0, 1]


async def test_a_stop_event_ends_the_run_whatever_a_step_waits_for():
    @step
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        got = await ctx.wait_for_event(Event)
        return StopEvent(result=("taken", got))

    @step
    async def stop(ev: StartEvent) -> StopEvent:
        await asyncio.sleep(0.005)
        return StopEvent(result="stopped")

    assert await Workflow("w", [work, stop]).run() == "stopped"


# A wait that is cancelled


async def test_an_event_is_not_lost_with_a_wait_that_is_cancelled_in_the_same_pass():
    @step
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        async def wait() -> Any:
            return await ctx.wait_for_event(Answer)

        task = asyncio.create_task(wait())
        await settle()
        runs[0].send_event(Answer(n=5))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return StopEvent(result=(await ctx.wait_for_event(Answer, timeout=0.2)).n)

    runs = [Workflow("w", [work]).run()]
    assert await runs[0] == 5


async def test_an_event_is_not_lost_with_a_wait_that_never_began():
    @step
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        runs[0].send_event(Answer(n=5))
        task = asyncio.ensure_future(ctx.wait_for_event(Answer))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return StopEvent(result=(await ctx.wait_for_event(Answer, timeout=0.2)).n)

    runs = [Workflow("w", [work]).run()]
    assert await runs[0] == 5


async def test_an_event_that_a_cancelled_wait_did_not_take_goes_to_the_next_waiter():
    @step
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        async def wait() -> int:
            return (await ctx.wait_for_event(Answer, timeout=0.3)).n

        first, second = asyncio.create_task(wait()), asyncio.create_task(wait())
        await settle()
        runs[0].send_event(Answer(n=5))
        first.cancel()
        return StopEvent(result=await second)

    runs = [Workflow("w", [work]).run()]
    assert await runs[0] == 5


@pytest.mark.parametrize("way", ["timeout", "wait_for"])
async def test_a_time_limit_of_the_step_ends_the_wait_and_the_next_event_goes_elsewhere(way: str):
    @step
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        with pytest.raises(TimeoutError):  # noqa: PT012
            if way == "timeout":
                async with asyncio.timeout(0.01):
                    await ctx.wait_for_event(Answer)
            else:
                await asyncio.wait_for(ctx.wait_for_event(Answer), 0.01)
        runs[0].send_event(Answer(n=6))
        return StopEvent(result=(await ctx.wait_for_event(Answer, timeout=0.2)).n)

    runs = [Workflow("w", [work]).run()]
    assert await runs[0] == 6


async def test_a_match_that_raises_raises_where_it_was_given():
    def wrong(ev: Answer) -> bool:
        raise ZeroDivisionError("wrong")

    run = waiting(match=wrong, timeout=0.5).run()
    await settle()
    run.send_event(Answer())  # whoever sends is not to blame
    with pytest.raises(ZeroDivisionError, match="wrong"):
        await run


async def test_a_match_may_use_the_context_and_send_events():
    @step
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        def match(ev: Answer) -> bool:
            if ctx.increment("asked") == 1:
                ctx.send_event(Answer(n=2))
            return ev.n == 2

        return StopEvent(result=(await ctx.wait_for_event(Answer, match=match, timeout=1)).n)

    @step(external=True)
    async def rest(ev: Answer) -> None: ...

    run = Workflow("w", [work, rest]).run()
    await settle()
    run.send_event(Answer(n=1))
    assert await run == 2


# A wait at the end


async def test_a_run_that_ends_cancels_those_who_wait():
    events: list[str] = []

    @step
    async def work(ctx: Context, ev: StartEvent) -> None:
        try:
            await ctx.wait_for_event(Answer)
        except asyncio.CancelledError:
            events.append("cancelled")
            raise

    @step
    async def stop(ev: StartEvent) -> StopEvent:
        await asyncio.sleep(0.005)
        return StopEvent()

    await Workflow("w", [work, stop]).run()
    assert events == ["cancelled"]


async def test_waiting_in_a_run_that_has_ended_is_a_typed_error():
    contexts: list[Context] = []

    @step
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        contexts.append(ctx)
        return StopEvent()

    await Workflow("w", [work]).run()
    with pytest.raises(RunEnded):
        await contexts[0].wait_for_event(Answer)


async def test_waiting_in_a_thread_is_a_clear_error():
    @step
    def work(ctx: Context, ev: StartEvent) -> StopEvent:
        ctx.wait_for_event(Answer)
        return StopEvent()

    with pytest.raises(RuntimeError, match="async def"):
        await Workflow("w", [work]).run()


async def test_a_run_whose_last_wait_times_out_in_a_task_of_its_own_stalls():
    tasks: list[Any] = []

    @step
    async def work(ctx: Context, ev: StartEvent):
        async def wait() -> None:
            with pytest.raises(WaitTimeout):
                await ctx.wait_for_event(Answer, timeout=0.02)

        tasks.append(asyncio.create_task(wait()))
        await asyncio.sleep(0)

    with pytest.raises(RunStalled):
        await asyncio.wait_for(Workflow("w", [work]).run(), 1)


async def test_an_event_that_nobody_asks_for_does_not_keep_a_run_going():
    @step
    async def work(ctx: Context, ev: StartEvent):
        await asyncio.sleep(0.005)

    run = Workflow("w", [work]).run()
    run.send_event(Answer())
    with pytest.raises(RunStalled):
        await asyncio.wait_for(run, 1)


# collect_events


async def collected(events: list[Any], expected: Any, **options: Any) -> list[Any]:
    """What each call gives, for these events one after the other."""

    @step
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        return StopEvent(
            result=[ctx.collect_events(event, expected, **options) for event in events]
        )

    result: list[Any] = await Workflow("collect", [work]).run()
    return result


async def test_collect_gives_the_events_in_the_order_in_which_they_are_expected():
    a, b, c = Answer(n=1), Other(n=2), Other(n=3)
    assert await collected([b, c, a], [Answer, Other, Other]) == [None, None, [a, b, c]]
    assert await collected([b, c, a], [Other, Answer, Other]) == [None, None, [b, a, c]]
    assert await collected([b, c, a], (Answer, Other, Other)) == [None, None, [a, b, c]]


async def test_collected_events_that_are_too_many_count_for_the_next_time():
    a1, a2, a3, b1, b2 = Answer(n=1), Answer(n=2), Answer(n=3), Other(n=1), Other(n=2)
    assert await collected([a1, a2, a3, b1, b2], [Answer, Other]) == [
        None,
        None,
        None,
        [a1, b1],
        [a2, b2],
    ]


async def test_collect_begins_anew_when_all_were_there():
    a, b = Answer(), Other()
    assert await collected([a, b, b, a], [Answer, Other]) == [None, [a, b], None, [a, b]]


async def test_an_event_of_a_subclass_counts_for_the_most_specific_expected_class():
    better, answer = Better(n=1), Answer(n=2)
    assert await collected([better, answer], [Answer, Better]) == [None, [answer, better]]
    assert await collected([better, answer], [Answer, Answer]) == [None, [better, answer]]


async def test_an_event_of_no_expected_class_is_an_error_and_nothing_is_collected():
    with pytest.raises(ValueError, match="Other"):
        await collected([Other()], [Answer])


@pytest.mark.parametrize("expected", [[], ()])
async def test_expecting_nothing_is_an_error(expected: Any):
    with pytest.raises(ValueError, match="nothing"):
        await collected([Answer()], expected)


@pytest.mark.parametrize("expected", [5, Answer, {Answer}, None])
async def test_what_is_no_list_is_a_type_error(expected: Any):
    with pytest.raises(TypeError):
        await collected([Answer()], expected)


@pytest.mark.parametrize(
    ("expected", "wrong"),
    [
        ([Answer, None], "number 2 of 2 is None"),
        ([Answer, "Other"], "number 2 of 2 is 'Other'"),
        ([Answer, Other, Better(n=7)], r"number 3 of 3 is Better\(n=7"),
        ((None, Answer), "number 1 of 2 is None"),
    ],
)
async def test_each_of_the_expected_classes_is_checked(expected: Any, wrong: str):
    with pytest.raises(TypeError, match=wrong):
        await collected([Answer()], expected)


async def test_a_list_of_expected_classes_that_has_grown_is_checked_again():
    @step
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        expected: list[Any] = [Answer, Other]
        ctx.collect_events(Answer(), expected)
        expected.append(None)
        ctx.collect_events(Answer(), expected)
        return StopEvent()

    with pytest.raises(TypeError, match="number 3 of 3 is None"):
        await Workflow("collect", [work]).run()


async def test_groups_are_told_apart_by_key_and_by_what_is_expected():
    @step
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        a, b, c = Answer(n=1), Other(n=2), Other(n=3)
        return StopEvent(
            result=[
                ctx.collect_events(a, [Answer, Other], key="one"),
                ctx.collect_events(a, [Answer, Other], key="two"),
                ctx.collect_events(a, [Answer, Other]),
                ctx.collect_events(b, [Answer, Other, Other]),
                ctx.collect_events(c, [Answer, Other], key="two") == [a, c],
                ctx.collect_events(b, [Answer, Other], key="one") == [a, b],
                ctx.collect_events(c, [Answer, Other]) == [a, c],
            ]
        )

    assert await Workflow("w", [work]).run() == [None, None, None, None, True, True, True]


async def test_a_list_that_is_changed_between_two_calls_counts_as_it_is_then():
    @step
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        a, b = Answer(n=1), Other(n=2)
        wanted: list[Any] = [Answer, Answer]
        for _ in range(2):
            ctx.collect_events(a, wanted)
        wanted[:] = [Other, Other]
        return StopEvent(
            result=[ctx.collect_events(b, wanted), ctx.collect_events(b, wanted) == [b, b]]
        )

    assert await Workflow("w", [work]).run() == [None, True]


async def test_steps_do_not_share_what_they_collect():
    class Go(Event):
        n: int

    @step
    async def begin(ev: StartEvent) -> list[Go]:
        return [Go(n=1), Go(n=2)]

    def joiner(name: str) -> Any:
        @step(name=name)
        async def join(ctx: Context, ev: Go) -> Other | None:
            got = ctx.collect_events(ev, [Go, Go])
            return None if got is None else Other(n=sum(ev.n for ev in got))

        return join

    @step
    async def end(ctx: Context, ev: Other) -> StopEvent | None:
        got = ctx.collect_events(ev, [Other] * 2)
        return None if got is None else StopEvent(result=[ev.n for ev in got])

    assert await Workflow("w", [begin, joiner("a"), joiner("b"), end]).run() == [3, 3]


async def test_a_thousand_parallel_workers_are_collected_once():
    class Go(Event):
        n: int

    @step
    async def begin(ev: StartEvent) -> list[Go]:
        return [Go(n=n) for n in range(1000)]

    @step
    def work(ev: Go) -> Other:
        return Other(n=ev.n)

    @step
    async def join(ctx: Context, ev: Other) -> StopEvent | None:
        got = ctx.collect_events(ev, [Other] * 1000)
        return None if got is None else StopEvent(result=sorted(ev.n for ev in got))

    assert await Workflow("w", [begin, work, join]).run() == list(range(1000))


# sleep


async def test_a_sleep_takes_its_time_and_gives_nothing():
    @step
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        begin = time.monotonic()
        assert await ctx.sleep(0.03) is None
        return StopEvent(result=time.monotonic() - begin)

    assert await Workflow("w", [work]).run() >= 0.029


@pytest.mark.parametrize("seconds", [0, 0.0, -0.0])
async def test_a_sleep_of_no_time_gives_everybody_else_a_turn(seconds: float):
    @step
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        passes = 0

        def count() -> None:
            nonlocal passes
            passes += 1
            asyncio.get_running_loop().call_soon(count)

        count()
        for _ in range(100):
            await ctx.sleep(seconds)
        return StopEvent(result=passes)

    assert await Workflow("w", [work]).run() >= 100


@pytest.mark.parametrize("seconds", ["1", None, True, False, -1, float("nan"), [1], 10**400])
async def test_what_is_no_time_is_an_error_that_names_it(seconds: Any):
    @step
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        await ctx.sleep(seconds)
        return StopEvent()

    with pytest.raises((TypeError, ValueError), match="seconds"):
        await Workflow("w", [work]).run()


async def test_many_sleep_at_once_and_wake_in_the_order_of_their_times():
    woken: list[int] = []

    @step
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        async def sleep(n: int) -> None:
            await ctx.sleep(n / 20)
            woken.append(n)

        await asyncio.gather(*(sleep(n) for n in reversed(range(1, 11))))
        return StopEvent()

    await asyncio.wait_for(Workflow("w", [work]).run(), 10)
    assert woken == list(range(1, 11))


async def test_a_sleep_can_be_cut_short_and_leaves_nothing():
    @step
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ctx.sleep(10), 0.005)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.005):
                await ctx.sleep(10)
        ctx.sleep(10).close()
        return StopEvent(result="awake")

    assert await asyncio.wait_for(Workflow("w", [work]).run(), 1) == "awake"


async def test_a_sleep_is_awaited_once():
    @step
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        sleep = ctx.sleep(0.001)
        await sleep
        with pytest.raises(RuntimeError, match="sleep: cannot be awaited twice"):
            await sleep
        return StopEvent()

    await Workflow("w", [work]).run()


async def test_a_sleep_needs_a_step_on_the_loop():
    @step
    def work(ctx: Context, ev: StartEvent) -> StopEvent:
        with pytest.raises(EventLoopError, match="sleep"):
            ctx.sleep(1)
        with pytest.raises(EventLoopError, match="wait_for_event"):
            ctx.wait_for_event(Answer)
        return StopEvent()

    await Workflow("w", [work]).run()


async def test_a_sleep_after_the_end_of_the_run_is_refused():
    contexts: list[Context] = []

    @step
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        contexts.append(ctx)
        return StopEvent()

    await Workflow("w", [work]).run()
    with pytest.raises(RunEnded):
        await contexts[0].sleep(0.01)


async def test_a_run_with_a_sleep_of_a_task_that_a_step_left_behind_is_not_stalled_before_its_end():
    @step
    async def work(ctx: Context, ev: StartEvent) -> None:
        async def later() -> None:
            await ctx.sleep(0.02)
            ctx.send_event(StopEvent(result="later"))

        tasks.append(asyncio.create_task(later()))
        await asyncio.sleep(0)

    tasks: list[asyncio.Task[None]] = []
    assert await asyncio.wait_for(Workflow("w", [work]).run(), 1) == "later"


async def test_a_sleeping_run_holds_no_other_back():
    @step
    async def sleep(ctx: Context, ev: StartEvent) -> StopEvent:
        await ctx.sleep(0.02)
        return StopEvent(result=ev.n)

    workflow = Workflow("w", [sleep])
    begin = time.monotonic()
    assert await asyncio.gather(*(workflow.run(n=n) for n in range(500))) == list(range(500))
    assert time.monotonic() - begin < 1


# A matcher that raises, and many senders


async def test_a_matcher_that_raises_fails_its_own_wait_and_the_event_goes_on():
    def broken(ev: Answer) -> bool:
        raise ZeroDivisionError("in the matcher")

    @step
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        async def wait(match: Any) -> Any:
            return (await ctx.wait_for_event(Answer, match=match)).n

        waiting = [asyncio.ensure_future(wait(match)) for match in (broken, None)]
        await asyncio.wait(waiting)
        with pytest.raises(ZeroDivisionError, match="in the matcher"):
            waiting[0].result()
        return StopEvent(result=waiting[1].result())

    run = Workflow("w", [work]).run()
    await settle()
    run.send_event(Answer(n=6))
    assert await asyncio.wait_for(run, 1) == 6


async def test_a_matcher_that_raises_over_a_kept_event_fails_the_call_and_the_event_stays():
    @step
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        with pytest.raises(ZeroDivisionError):
            await ctx.wait_for_event(Answer, match=lambda ev: 1 / 0)
        return StopEvent(result=(await ctx.wait_for_event(Answer)).n)

    run = Workflow("w", [work]).run()
    run.send_event(Answer(n=6))
    assert await asyncio.wait_for(run, 1) == 6


async def test_a_matcher_may_send_an_event_itself():
    @step
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        def match(ev: Answer) -> bool:
            if ev.n == 1:
                run.send_event(Answer(n=2))
            return ev.n == 2

        return StopEvent(result=(await ctx.wait_for_event(Answer, match=match)).n)

    run = Workflow("w", [work]).run()
    await settle()
    run.send_event(Answer(n=1))
    assert await asyncio.wait_for(run, 1) == 2


async def test_a_matcher_may_end_the_run():
    @step
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        await ctx.wait_for_event(Answer, match=lambda ev: run.cancel())
        return StopEvent()

    run = Workflow("w", [work]).run()
    waiting = asyncio.ensure_future(run)
    await settle()
    with pytest.raises(RunEnded):
        run.send_event(Answer())
    with pytest.raises(RunCancelled):
        await asyncio.wait_for(waiting, 1)


async def test_many_threads_send_to_many_waiters_and_each_event_is_received_once():
    count = 400

    @step
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        async def wait() -> int:
            return (await ctx.wait_for_event(Answer)).n

        return StopEvent(result=sorted(await asyncio.gather(*(wait() for _ in range(count)))))

    run = Workflow("w", [work]).run()
    await settle()

    def send(part: int) -> None:
        for n in range(part, count, 4):
            run.send_event(Answer(n=n))

    await asyncio.gather(*(asyncio.to_thread(send, part) for part in range(4)))
    assert await asyncio.wait_for(run, 5) == list(range(count))


async def test_waits_that_are_cancelled_while_threads_send_lose_no_event():
    count = 200

    @step
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        got: list[int] = []
        while len(got) < count:
            try:
                async with asyncio.timeout(0.0005):
                    got.append((await ctx.wait_for_event(Answer)).n)
            except TimeoutError:
                continue
        return StopEvent(result=sorted(got))

    run = Workflow("w", [work]).run()

    def send(part: int) -> None:
        for n in range(part, count, 2):
            run.send_event(Answer(n=n))
            time.sleep(0.0002)

    sending = [asyncio.to_thread(send, part) for part in range(2)]
    results = await asyncio.wait_for(asyncio.gather(run, *sending), 10)
    assert results[0] == list(range(count))


async def test_very_many_events_that_were_sent_before_are_taken_in_good_time():
    count = 20_000

    @step
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        got = [(await ctx.wait_for_event(Answer)).n for _ in range(count)]
        return StopEvent(result=got == list(range(count)))

    run = Workflow("w", [work]).run()
    for n in range(count):
        run.send_event(Answer(n=n))
    begin = time.monotonic()
    assert await run
    assert time.monotonic() - begin < 2


@pytest.mark.parametrize("timeout", [0, -1, "1", True, float("nan"), 10**400])
async def test_a_wrong_time_limit_of_a_wait_is_named(timeout: Any):
    with pytest.raises((TypeError, ValueError), match="timeout"):
        await waiting(timeout=timeout).run()


async def test_a_wait_that_times_out_says_what_it_waited_for():
    with pytest.raises(WaitTimeout, match=r"no event .*Answer came within 0.01 s"):
        await waiting(timeout=0.01).run()
