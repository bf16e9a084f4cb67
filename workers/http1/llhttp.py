"""The second opinion of the twin: llhttp, asked last about every head that our own grammar accepts.

Our grammar should be the narrower one everywhere, so that llhttp never has anything to add; it is asked
in case it has. In a browser there is no llhttp, and no head that anybody serves: there our grammar judges alone.
"""

from __future__ import annotations

import sys

if sys.platform != "emscripten":
    import httptools

    def refuses_request(octets: bytes) -> bool:
        try:
            httptools.HttpRequestParser(object()).feed_data(octets)
        except httptools.HttpParserUpgrade:
            return False
        except httptools.HttpParserError:
            return True
        return False

    def refuses_response(octets: bytes) -> bool:
        try:
            httptools.HttpResponseParser(object()).feed_data(octets)
        except httptools.HttpParserUpgrade:
            return False
        except httptools.HttpParserError:
            return True
        return False

else:

    def refuses_request(octets: bytes) -> bool:
        return False

    def refuses_response(octets: bytes) -> bool:
        return False
