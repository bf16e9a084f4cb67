"""HTTP/1 as a codec: octets in, heads and bodies out, and back; no sockets, no clock."""
