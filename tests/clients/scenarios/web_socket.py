"""web_socket.py URL [AUTHORIZATION]: opens a WebSocket, prints what it is told, says something and prints the echo."""

import asyncio
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus


# Not the client with threads: its reader and its writer share a TLS socket, which Python before 3.13 does not lock, and
# now and then the request is never sent.
async def main(url, *authorization):
    headers = {"Authorization": authorization[0]} if authorization else {}
    try:
        async with connect(url, additional_headers=headers) as socket:
            print(await socket.recv())
            await socket.send("said by the client")
            print(await socket.recv())
    except InvalidStatus as error:
        sys.exit(f"{error}: {error.response.body.decode()}")


asyncio.run(main(*sys.argv[1:]))
