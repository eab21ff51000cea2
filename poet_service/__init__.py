"""The planning service: graphs in, judged plans out, over HTTP. It accepts data, never programs.

settings   what a deployment may use (ServiceSettings)
app        create_app: the routes
body       a request body, bounded, timed and strictly JSON
solving    a bounded number of solves, each in a thread, each cancellable
store      the plans of this process, bounded
problems   errors as application/problem+json
shields    what surrounds every request: host check, headers, log line, last resort
openapi    the description of the API, with examples that work
"""
