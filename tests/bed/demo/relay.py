"""Lets pods reach servers of this machine's loopback: the ports given, on this machine's own address.

Prints `ADDRESS port...` when it listens, one port for each given. Ends with its parent.
"""

import asyncio
import ctypes
import signal
import socket
import sys

PR_SET_PDEATHSIG = 1


def own_address() -> str:
    """The address packets to elsewhere would leave from; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return probe.getsockname()[0]


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass  # the other end is told by closing
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
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    asyncio.run(main([int(port) for port in sys.argv[1:]]))
