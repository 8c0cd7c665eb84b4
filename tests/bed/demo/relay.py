"""Relays connections to servers on loopback, so that pods can reach them at this machine's address.

When it listens, it prints `ADDRESS port...` with one port per given port. It exits with its parent.
"""

import asyncio
import socket
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))  # contains bedkit
from bedkit.parent import end_with_parent_thread


def own_address() -> str:
    """Return the source address of packets to other machines; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return probe.getsockname()[0]


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass  # closing the writer ends the other side
    finally:
        writer.close()


async def main(ports: list[int]) -> None:
    address, servers = own_address(), []
    for port in ports:

        async def relay(reader, writer, port=port):
            try:
                there = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                writer.close()
                return
            await asyncio.gather(copy(reader, there[1]), copy(there[0], writer))

        servers.append(await asyncio.start_server(relay, address, 0))
    print(address, *(server.sockets[0].getsockname()[1] for server in servers), flush=True)
    await asyncio.gather(*(server.serve_forever() for server in servers))


if __name__ == "__main__":
    end_with_parent_thread()
    asyncio.run(main([int(port) for port in sys.argv[1:]]))
