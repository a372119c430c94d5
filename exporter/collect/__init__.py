"""A complete answer from an API that has no pages.

One `Collector` belongs to one account and resource and outlives polls. It keeps what it learned of the server
(`ServerLimits`), where rows are known to be, and what an interrupted poll has left over::

    collector = Collector(
        per_page=500, concurrency=2,
        rounds=Rounds(tiers, window, interval),  # when starts are read again
        saved=mapping_from_save,                 # None: nothing is known; unknown keys are ignored
        known=[(campaign_id, channel, start, rows), …],     # what is tracked already: the first plan
    )
    poll = collector.poll(ask, now=wall_clock, clock=monotonic)
    window = poll.window()                  # what is due by start
    senders = poll.senders(sent, before)    # campaigns that started before `before` and still send
    older = poll.by_ids(ids)                # campaigns outside of the window
    moved = poll.moved(ids, starts)         # campaigns whose start changed
    poll.collected                          # all rows of these jobs, each once
    collector.save()                        # a plain dict; keep it with the base_url that it was learned from
    collector.incomplete                    # why rows may be lacking now, in words; empty: nothing is

`ask(query)` returns a `Page` or raises a `PollError`; it is called from up to `concurrency` threads. Each job
returns a `Collected` and raises nothing but `StoppedError`: what ended it early is its `failure`, and what it
has read until then stands. So a job that is refused, slow or odd never takes down another. The next poll goes
on where the last one was interrupted.

All jobs of a poll draw from one number of requests (see `exporter.collect.budget`); where it is spent the
result is incomplete, and no failure. What fails whatever else is asked for is left out (see
`exporter.collect.poisoned`).

How an answer is known to be complete: see `exporter.collect.page_cap`.
"""
