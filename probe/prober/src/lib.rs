//! Sans-IO probe machines: attempt, resolver, HTTP/1.1, TLS.
