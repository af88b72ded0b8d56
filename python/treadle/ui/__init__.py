"""A page for people: the runs of a journal, their timelines, states and logs, in a browser.

    app.mount("/treadle", treadle.ui.app(engine, access=access))

or `python -m treadle ui URL`, which needs nothing else.

- `app`: the ASGI application; `routes`: what answers which path;
- `guard`: who may ask: hosts, origins, the token, access; `http`: requests and responses;
- `query`: the language of the filter; `listing`: lists of runs; `reading`: one run;
- `overview`: workflows, processes, and runs that wait for an answer;
- `acting`: what changes runs; `live`: what changes, told as it happens;
- `shared`: answers that several tabs share;
- `showing`: values as JSON, redacted and exact;
- `bridge`: a server for one person on this machine; `command`: the command line.
"""

from .app import app

__all__ = ["app"]
