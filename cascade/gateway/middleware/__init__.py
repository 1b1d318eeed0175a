"""What every request passes, from the outside in: Problems, Paths, Concurrency, Authentication. Pure ASGI, one class a file."""
