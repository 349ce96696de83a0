"""What the engine serves over HTTP.

In reading order:

- `routes`: the table of all paths, each with the handler that serves it; `openapi` makes /openapi.json of it.
- `app`: finds the handler of a request, and answers every refusal in one shape.
- `client`: the calls of clients (`/route/`) and workers (reports, finished requests).
- `admin`: the calls of the command line and of Vast's console, which change endpoints and workergroups.
- `views`: the views of `nullworker.views`; `live` sends them as they change; `page` serves the page that shows them.
- `acts`: signing in, and what operators do beyond Vast's own calls; `auditing` writes acts down.
- `surface`: puts all of these together.
- `status`: the calls that read: the state in numbers, decisions, and why something is as it is.
- `http`: reads bodies and writes answers. `listening`: how many connections there are, and how long one may be idle.
"""
