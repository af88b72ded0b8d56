import asyncio
from typing import Any

import pytest

from treadle import (
    Context,
    Event,
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
    assert run.status == "running"
    event = Answer(n=1)
    run.send_event(event)
    assert await run is event


async def test_an_event_of_a_subclass_is_taken_and_one_of_another_class_is_not():
    run = waiting().run()
    await settle()
    run.send_event(Other())
    await settle()
    assert run.status == "running"
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
    assert run.status == "running"
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
    assert first.status == "running"
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
