"""Who may ask, and how much.

scopes   what a token may be used for, and which address needs what
tokens   from a request to its Caller
origin   which names and which web pages are answered where there are no tokens
limits   places and rates that run out with a 429
remote   where a service may listen
"""
