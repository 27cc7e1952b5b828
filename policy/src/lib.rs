//! Decides whether a request, a connection or a DNS name is allowed, by which rule and with which credential.
