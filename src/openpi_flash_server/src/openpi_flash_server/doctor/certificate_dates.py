"""Reads from a certificate what an operator must know: its fingerprint and its end. Pure.

Only as much of DER (ITU-T X.690) as the way to a certificate's validity needs (RFC 5280, section
4.1): no package of ours parses certificates, and no key or signature is looked at.
"""

from __future__ import annotations

import calendar
import hashlib
import ssl
import time


def first_certificate(pem: str) -> bytes:
    """The first certificate of a PEM file, as DER.

    Raises:
        ValueError: it holds none.
    """
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    if begin not in pem or end not in pem:
        raise ValueError("holds no certificate in PEM")
    body = pem[pem.index(begin) : pem.index(end, pem.index(begin)) + len(end)]
    return ssl.PEM_cert_to_DER_cert(body)


def fingerprint(der: bytes) -> str:
    """Its SHA-256 in hexadecimal, as clients pin it."""
    return hashlib.sha256(der).hexdigest()


def not_after(der: bytes) -> float:
    """When it expires, s since 1970.

    Raises:
        ValueError: this is no X.509 certificate.
    """
    _, certificate, _ = _element(der)
    _, to_be_signed, _ = _element(certificate)
    rest = to_be_signed
    # version [0] (may be missing), serial number, signature algorithm, issuer
    tag, _, after = _element(rest)
    if tag == _EXPLICIT_0:
        rest = after
    for _ in range(3):
        _, _, rest = _element(rest)
    _, validity, _ = _element(rest)
    _, _, behind_not_before = _element(validity)
    tag, text, _ = _element(behind_not_before)
    if tag not in _TIME_FORMATS:
        raise ValueError("is no X.509 certificate")
    moment = text.decode("ascii", "replace")
    if tag == _UTC_TIME:
        # RFC 5280, section 4.1.2.5.1
        moment = ("20" if moment[:2] < "50" else "19") + moment
    return float(calendar.timegm(time.strptime(moment, "%Y%m%d%H%M%SZ")))


def _element(data: bytes) -> tuple[int, bytes, bytes]:
    """The tag and the content of the first element, and what follows it."""
    if len(data) < 2:
        raise ValueError("is no X.509 certificate")
    tag, size, start = data[0], data[1], 2
    if size & 0x80:
        count = size & 0x7F
        size, start = int.from_bytes(data[2 : 2 + count], "big"), 2 + count
    if start + size > len(data):
        raise ValueError("is no X.509 certificate")
    return tag, data[start : start + size], data[start + size :]


_EXPLICIT_0 = 0xA0
_UTC_TIME = 0x17
_TIME_FORMATS = (_UTC_TIME, 0x18)
"""UTCTime and GeneralizedTime."""
