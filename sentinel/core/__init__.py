"""The decision core: no sockets, no clock, no files, no compiled packages."""
