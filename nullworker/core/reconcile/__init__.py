"""What the engine believes of workers that speak late, twice, out of order or not at all.

Reports may be lost, repeated, delayed or overtaken, answers may not arrive, and engines and workers are restarted. This
package turns that into five answers, and the rest of the core asks nothing else:

- `report_order`: is this report newer than what is known? (`ReportOrder.classify`)
- `deliveries`: to which grant does an end belong, and may another session of the request still begin? (`Delivery`,
  `FinishLog`)
- `unknown_instance`: may an instance that the engine does not know be destroyed? (`UnknownInstance`)
- `adoptions`: is a session that the engine does not know taken over from the worker that lists it? (`Adoptions`)
- `trust`: may the worker be granted, may it be ended, and when must its silence be looked at? (`Trust`)

Each is a small class over its own fields, without access to the engine's state: `EngineState` keeps the sums right when
an answer changes.
"""
