"""A worker's function in a module that loads at once."""


def echo(port):  # type: ignore[no-untyped-def]
    for message in port:
        port.send(message)
