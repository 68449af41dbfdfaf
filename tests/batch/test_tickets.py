"""Back-pressure: units wait at the manifest until others have come out."""

import asyncio

from serve_app.batch.tickets import Tickets


async def test_no_more_units_go_in_than_allowed_until_one_comes_out() -> None:
    tickets = Tickets(3)
    inside: list[int] = []

    async def read() -> None:
        for number in range(6):
            await tickets.wait(number)
            inside.append(number)

    reader = asyncio.create_task(read())
    await asyncio.sleep(0.01)
    assert inside == [0, 1, 2]
    await tickets.answered()
    await asyncio.sleep(0.01)
    assert inside == [0, 1, 2, 3]
    for _ in range(2):
        await tickets.answered()
    await reader
    assert inside == list(range(6))


async def test_a_reader_that_begins_anew_waits_for_nothing_twice() -> None:
    tickets = Tickets(2)
    for _ in range(4):
        await tickets.answered()
    async with asyncio.timeout(1):
        for number in range(6):
            await tickets.wait(number)
