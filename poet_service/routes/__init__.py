"""The addresses of the service: each reads what was sent, asks jobs/, and sends what that says.

parts        what the routes work with
requests     who asks, which job, how long to wait
plans        /v1/plans, its jobs, :validate and :verify
frontiers    /v1/frontiers
devices      /v1/devices
operations   /healthz, /readyz, /metrics
"""
