"""The gateway: the Messages API over HTTP, where a request for `claude-cascade-<policy>` climbs and any other is passed through.

Read in this order:

- `settings`: what `cascade serve` is started with
- `server`: uvicorn, workers, shutdown
- `app`: the routes; `middleware`: what every request passes first, one class a file
- `hub`: what all endpoints of a process share; `policies`: the policies being served, reloaded when their files change
- `dispatch`: POST /v1/messages: to `messages`, which climbs, or to `relay`, which passes bytes on
- `tee`: reads the usage out of bytes that were passed on
- `keys`: who may use the gateway, with which policy and which budget

What is relayed is never parsed beyond `model` before it has gone out, never buffered, and recorded with arm `relay`.
"""
