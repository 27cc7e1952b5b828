"""web_socket.py URL [AUTHORIZATION]: opens a WebSocket, prints what it is told, says something and prints the echo."""

import sys

from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

url, *authorization = sys.argv[1:]
headers = {"Authorization": authorization[0]} if authorization else {}
try:
    with connect(url, additional_headers=headers) as socket:
        print(socket.recv())
        socket.send("said by the client")
        print(socket.recv())
except InvalidStatus as error:
    sys.exit(f"{error}: {error.response.body.decode()}")
