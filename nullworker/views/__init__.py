"""What the page and the terminal show of an engine: typed, built in one place, and sent as JSON.

The engine builds these views, its page and the command line show them, so that both say the same. In reading order:

- `types`: the views themselves, as they are sent.
- `history`: the states that workers and reservations went through in the last hour, and how long starts and holds took.
- `forecast`: when a waiter may get its worker, and what that is estimated from.
- `headline`: an endpoint in one sentence.
- `build`: makes each view from the core and the history.
- `text`: durations and times in words.
"""
