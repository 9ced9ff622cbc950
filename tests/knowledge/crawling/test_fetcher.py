"""Which addresses belong to the public web."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.knowledge.crawling.fetcher import is_public

PUBLIC = (
    "1.1.1.1",
    "93.184.215.14",
    "172.15.255.255",
    "172.32.0.1",
    "2606:2800:220:1::1",
    "64:ff9b::101:101",
)
PRIVATE = {
    "unspecified": ("0.0.0.0", "0.1.2.3", "::"),
    "loopback": ("127.0.0.1", "127.255.255.254", "::1"),
    "private": ("10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "fc00::1", "fdff::1"),
    "link-local": ("169.254.169.254", "169.254.0.1", "fe80::1", "fe80::1%eth0", "febf::1"),
    "site-local": ("fec0::1",),
    "carrier-grade NAT": ("100.64.0.1", "100.100.100.200", "100.127.255.255"),
    "multicast and broadcast": ("224.0.0.1", "239.255.255.255", "255.255.255.255", "ff02::1", "ff0e::1"),
    "reserved": ("240.0.0.1", "4000::1", "100::1", "5f00::1"),
    "metadata of clouds": ("192.0.0.192", "168.63.129.16", "fd00:ec2::254"),
    "examples and tests": (
        "192.0.2.1",
        "198.51.100.1",
        "203.0.113.1",
        "198.18.0.1",
        "2001:db8::1",
        "3fff::1",
    ),
    "IPv4-mapped": ("::ffff:10.0.0.1", "::ffff:127.0.0.1", "::ffff:7f00:1", "::ffff:1.1.1.1"),
    "IPv4-compatible": ("::10.0.0.1", "::ffff:0:10.0.0.1"),
    "NAT64": ("64:ff9b::10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1.1.1.1"),
    "6to4": ("2002:a00:1::1", "2002:7f00:1::", "192.88.99.1"),
    "Teredo": ("2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:10::1", "2001:20::1"),
    "no address": ("", "localhost", "127.1", "0x7f000001", "2130706433", "0177.0.0.1", "1.1.1.1%x", "[::1]"),
}


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        *((address, True) for address in PUBLIC),
        *((address, False) for addresses in PRIVATE.values() for address in addresses),
    ],
)
def test_only_addresses_of_the_public_web_are_public(address: str, expected: bool) -> None:
    assert is_public(address) == expected


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_is_as_public_within_an_ipv6_address(address: ipaddress.IPv4Address) -> None:
    assert is_public(f"64:ff9b::{address}") == is_public(str(address))
    if is_public(str(address)):
        assert address.is_global
    assert not any(is_public(f"{prefix}{address}") for prefix in ("::", "::ffff:", "fe80::", "64:ff9b:1::"))
