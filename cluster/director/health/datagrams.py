"""Checks by single packets: UDP, DNS, ICMP echo. One deadline each, set by the caller."""

from __future__ import annotations

import asyncio
import os
import socket
import struct

import dns.exception
import dns.message
import dns.rcode
import dns.rdatatype

from cluster.director.health import Tried
from cluster.director.health.sockets import Goal, open_socket
from cluster.director.health.streams import printable
from cluster.ipvs.traffic.checks import Check, as_bytes

_LARGEST = 64 * 1024
# How long a refusal by ICMP may take where an answer is not waited for.
REFUSAL_TAKES_S = 0.5


async def check_udp(goal: Goal, check: Check) -> Tried:
    """Send, and wait for an answer, or for a refusal where none is expected."""
    loop = asyncio.get_running_loop()
    wanted = as_bytes(check.expects)
    with open_socket(goal, socket.SOCK_DGRAM) as asked:
        asked.connect((goal.address, goal.port))
        asked.send(as_bytes(check.payload))
        if not wanted:
            try:
                async with asyncio.timeout(min(REFUSAL_TAKES_S, check.timeout_s / 2)):
                    answer = await loop.sock_recv(asked, _LARGEST)
            except TimeoutError:
                return Tried(True, "", 0.0, "no answer, and no refusal")
            return Tried(True, "", 0.0, printable(answer.decode("utf-8", "replace")))
        answer = await loop.sock_recv(asked, _LARGEST)
    shown = printable(answer.decode("utf-8", "replace"))
    if not answer.startswith(wanted):
        return Tried(False, "the answer begins otherwise", 0.0, shown)
    return Tried(True, "", 0.0, shown)


async def check_dns(goal: Goal, check: Check) -> Tried:
    """Ask for a name; an answer without an error, and among it what is wanted."""
    loop = asyncio.get_running_loop()
    try:
        question = dns.message.make_query(check.query, check.record)
    except dns.exception.DNSException as error:
        raise ValueError(str(error)) from error
    with open_socket(goal, socket.SOCK_DGRAM) as asked:
        asked.connect((goal.address, goal.port))
        asked.send(question.to_wire())
        while True:
            data = await loop.sock_recv(asked, _LARGEST)
            try:
                answer = dns.message.from_wire(data)
            except dns.exception.DNSException:
                return Tried(False, "the answer is no DNS message", 0.0)
            if answer.id == question.id:
                break
    if answer.rcode():
        return Tried(False, f"DNS answered {dns.rcode.to_text(answer.rcode())}", 0.0)
    kind = dns.rdatatype.from_text(check.record)
    found = [item.to_text() for entry in answer.answer if entry.rdtype == kind for item in entry]
    shown = printable(", ".join(found))
    if not found:
        return Tried(False, f"DNS has no {check.record} of {check.query}", 0.0)
    if check.answer and check.answer.rstrip(".").lower() not in (one.strip('".').lower() for one in found):
        return Tried(False, f"“{check.answer[:60]}” is not among the DNS answers", 0.0, shown)
    return Tried(True, "", 0.0, shown)


async def check_ping(goal: Goal, check: Check) -> Tried:
    """One ICMP echo request. Needs net.ipv4.ping_group_range, which systemd sets, or CAP_NET_RAW."""
    loop = asyncio.get_running_loop()
    is_v6 = goal.family == socket.AF_INET6
    protocol = socket.IPPROTO_ICMPV6 if is_v6 else socket.IPPROTO_ICMP
    request, reply = (128, 129) if is_v6 else (8, 0)
    token = os.urandom(16)
    with _ping_socket(goal, protocol) as asked:
        asked.setblocking(False)
        asked.connect((goal.address, 0))
        asked.send(_with_checksum(struct.pack("!BBHHH", request, 0, 0, os.getpid() & 0xFFFF, 1) + token))
        while True:
            data = await loop.sock_recv(asked, _LARGEST)
            # A raw socket of IPv4 shows the IP header and everybody's echoes.
            if not is_v6 and data[:1] and data[0] >> 4 == 4:
                data = data[(data[0] & 0xF) * 4 :]
            if data[:1] == bytes([reply]) and token in data:
                return Tried(True, "", 0.0)


def _ping_socket(goal: Goal, protocol: int) -> socket.socket:
    try:
        return socket.socket(goal.family, socket.SOCK_DGRAM, protocol)
    except PermissionError:
        return socket.socket(goal.family, socket.SOCK_RAW, protocol)


def _with_checksum(packet: bytes) -> bytes:
    """RFC 1071. A kernel computes it itself for datagram sockets and for ICMPv6."""
    total = sum(struct.unpack(f"!{len(packet) // 2}H", packet))
    total = (total >> 16) + (total & 0xFFFF)
    total += total >> 16
    return packet[:2] + struct.pack("!H", ~total & 0xFFFF) + packet[4:]
