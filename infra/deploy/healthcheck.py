"""Asks the service in this container, plainly or over TLS, whether it is ready: exit 0 or 1."""

import http.client
import ssl
import sys

PORT, TIMEOUT_S = 3000, 3.0


def is_ready(connection: http.client.HTTPConnection) -> bool:
    """Whether `/readyz` answers 200."""
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False


def unverified() -> ssl.SSLContext:
    """It is our own certificate, on loopback, and made out for another name."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


if __name__ == "__main__":
    plain = http.client.HTTPConnection("127.0.0.1", PORT, timeout=TIMEOUT_S)
    sys.exit(
        not is_ready(plain)
        and not is_ready(http.client.HTTPSConnection("127.0.0.1", PORT, timeout=TIMEOUT_S, context=unverified()))
    )
