"""The grammar of HTTP/1.1 as compiled byte patterns, each below the rule that it implements.

Stricter than the RFCs if a worker could read the same bytes differently. All patterns are for `fullmatch`; none nests
quantifiers. Knows no classes, no limits, no errors.
"""

from __future__ import annotations

import re

# RFC 9110 5.6.2: tchar.
_TCHAR = rb"!#$%&'*+\-.^_`|~0-9A-Za-z"

# RFC 9112 3: request-line = method SP request-target SP HTTP-version. The target has visible ASCII only and no
# "#": RFC 3986 allows neither, and a router and a worker that read a fragment differently disagree on the path.
REQUEST_LINE = re.compile(rb"([" + _TCHAR + rb"]{1,32}) ([\x21\x22\x24-\x7e]+) HTTP/1\.([01])")

# Bytes with which a request can begin: a tchar, or the CR of one empty line (RFC 9112 2.2).
REQUEST_START = frozenset(b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz\r")

# The beginning of a request-line that can still become a valid one. The method is limited here, so that endless letters
# are refused before the limit of the target.
REQUEST_LINE_PREFIX = re.compile(
    rb"[" + _TCHAR + rb"]{0,32}(?: (?:[\x21\x22\x24-\x7e]+(?: H?T?T?P?/?[0-9]?\.?[0-9]?)?)?)?\r?"
)
TARGET_OCTETS = bytes(octet for octet in range(0x21, 0x7F) if octet != 0x23)

# RFC 9112 2.3: a well-formed version that is not ours, so that it can be answered 505.
OTHER_VERSION = re.compile(rb"[" + _TCHAR + rb"]{1,32} [\x21\x22\x24-\x7e]+ HTTP/[0-9]\.[0-9]")

# RFC 9112 4: status-line = HTTP-version SP status-code SP [ reason-phrase ]. 100 to 999.
STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9]) [\t\x20-\x7e\x80-\xff]*")

# RFC 9112 5: field-line = field-name ":" OWS field-value OWS, seen after lower-casing. No blank before the colon,
# no line that starts with one (obs-fold), and a name there must be.
FIELD_NAME_AT_LINE_START = re.compile(rb"\r\n([!#$%&'*+\-.^_`|~0-9a-z]+):")
FIELD_LINE = re.compile(rb"([" + _TCHAR + rb"]+):[\t\x20-\x7e\x80-\xff]*")

# What `bytes.translate` may delete from a head: anything but control bytes; HTAB, CR and LF are judged apart.
NOT_CONTROL = bytes(octet for octet in range(256) if octet >= 0x20 and octet != 0x7F) + b"\t\r\n"

# RFC 9110 7.2, RFC 3986 3.2.2: Host = uri-host [ ":" port ]. Empty is legal where there is no authority.
HOST = re.compile(
    rb"(?:\[[0-9A-Fa-f:.]{2,64}\]|[A-Za-z0-9\-._~!$&'()*+;=%]*)(?::[0-9]{0,5})?",
)

# RFC 9112 3.2.2: absolute-form of the schemes we serve; no userinfo, no empty host.
ABSOLUTE_FORM = re.compile(
    rb"[Hh][Tt][Tt][Pp][Ss]?://(\[[0-9A-Fa-f:.]{2,64}\](?::[0-9]{0,5})?|[A-Za-z0-9\-._~!$&'()*+;=%]+(?::[0-9]{0,5})?)([/?].*)?",
)

# RFC 9110 8.6: Content-Length = 1*DIGIT. 18 digits fit any file and any signed 64-bit reader behind us.
CONTENT_LENGTH = re.compile(rb"[0-9]{1,18}")

# RFC 9112 7.1: chunk-size [ chunk-ext ]. No blanks anywhere (BWS is legal for a recipient to refuse); after leading
# zeros at most 15 digits, so that no reader behind us overflows.
_QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*"'
CHUNK_LINE = re.compile(
    rb"0*([0-9A-Fa-f]{1,15})((?:;[" + _TCHAR + rb"]+(?:=(?:[" + _TCHAR + rb"]+|" + _QUOTED + rb"))?)*)"
)
CHUNK_LINE_PREFIX = re.compile(rb"0*[0-9A-Fa-f]{0,15}(?:;[\t\x20-\x7e\x80-\xff]*)?\r?")

# RFC 9110 5.6.1: elements of a comma-separated list.
LIST_ELEMENT = re.compile(rb"[^ \t,](?:[^,]*[^ \t,])?")
TOKENS = re.compile(rb"(?:[" + _TCHAR + rb"]+(?:,[" + _TCHAR + rb"]+)*)?")
